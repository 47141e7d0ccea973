"""Every recipe that is shipped: whole, honest about its figure, and the one it says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from detectors.commands.train.header import learning_rate_line
from detectors.experiment.complaints import field_types
from detectors.experiment.learning_rate import learning_rate
from detectors.experiment.recipe import (
    Recipe,
    list_recipes,
    load_recipe,
    poptorch_options,
    recipe_yaml,
    resolve,
)
from detectors.experiment.recipe_checks import other_family
from detectors.experiment.structured import flat

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
OF_A_COMMAND = {
    "name",
    "task",
    "resume",
    "resume_changes",
    "weights",
    "detections",
    "against",
}
HEADINGS = ("# Data: ", "# Device: ", "# Expected: ", "# From: ", "# Deviations: ")


def test_these_recipes_are_shipped() -> None:
    assert set(NAMES) >= {
        *(f"coco_{size}" for size in ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x")),
        "custom_d0",
        "generated",
        "voc_d0",
        "voc0712_detectron2",
        "voc0712_fp32",
        "voc0712_mixed",
        "voc0712_mixed_32batch",
        "voc0712_mixed_64batch",
        "voc_custom",
    }
    assert [name for name, _ in list_recipes()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_every_key_in_the_order_of_the_schema(name: str) -> None:
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    model = content["model"]["name"]
    expected = [
        key
        for key in field_types(Recipe)
        if key not in OF_A_COMMAND and not other_family(key, model)
    ]
    assert list(dotted(content, field_types(Recipe))) == expected


def dotted(content: Any, known: Dict[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Key -> value of a YAML's leaves."""
    found: Dict[str, Any] = {}
    for name, value in content.items():
        if prefix + name in known:
            found[prefix + name] = value
        else:
            found.update(dotted(value, known, f"{prefix}{name}."))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_its_data_device_and_figure_and_where_that_is_from(name: str) -> None:
    header = (FOLDER / f"{name}.yaml").read_text().partition("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in header)
    starts = [line.partition(": ")[0] + ": " for line in header if not line.startswith("#  ")]
    assert starts[2:] == list(HEADINGS)
    assert header[1] == "#"
    assert len(header[0]) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_read_back_from_its_own_text(name: str, tmp_path: Path) -> None:
    for recipe in (load_recipe(name), resolve(load_recipe(name))):
        (tmp_path / "config.yaml").write_text(recipe_yaml(recipe))
        assert load_recipe(tmp_path) == recipe
        assert recipe.name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_becomes_poptorch_options(name: str) -> None:
    recipe = load_recipe(name)
    options = poptorch_options(recipe)
    assert options.Training.gradient_accumulation == recipe.gradient_accumulation
    assert len(options.available_memory_proportion) == len(recipe.pipeline.splits) + 1


@pytest.mark.parametrize(
    ("name", "images", "stages", "lr", "steps", "max_steps"),
    [
        ("voc0712_mixed", 16, 4, 0.02, [12000, 16000], 18000),
        ("voc0712_fp32", 16, 8, 0.02, [12000, 16000], 18000),
        ("voc0712_mixed_32batch", 32, 4, 0.04, [6000, 8000], 9000),
        ("voc0712_mixed_64batch", 64, 4, 0.1, [2500, 4000], 4500),
        ("voc0712_detectron2", 16, 1, 0.02, [12000, 16000], 18000),
    ],
)
def test_a_recipe_has_the_schedule_of_what_it_stands_for(
    name: str, images: int, stages: int, lr: float, steps: object, max_steps: int
) -> None:
    recipe = load_recipe(name)
    assert recipe.images_per_step == recipe.optim.base_batch == images
    assert len(recipe.pipeline.splits) + 1 == stages
    assert (recipe.optim.lr, recipe.optim.steps) == (lr, steps)
    assert recipe.trainer.max_steps == max_steps


def test_all_of_voc_sees_the_same_number_of_pictures() -> None:
    seen = [
        load_recipe(name).images_per_step * load_recipe(name).trainer.max_steps
        for name in NAMES
        if name.startswith("voc0712")
    ]
    assert set(seen) == {288000}


def test_detectron2s_pictures_fit_its_canvas() -> None:
    image = load_recipe("voc0712_detectron2").image
    assert (image.size, image.fit, image.long_edge) == (1344, "short_edge", 1333)
    assert image.short_edges == list(range(480, 801, 32))


def test_a_custom_recipe_can_be_made_small_enough_for_a_laptop() -> None:
    words = (
        "model.weights=random model.depth=18 image.size=256 gradient_accumulation=1"
        " pipeline.splits=[] trainer.max_steps=30"
    )
    recipe = resolve(load_recipe("voc_custom", words.split()))
    assert (recipe.images_per_step, recipe.model.norm.name) == (1, "batch")
    assert recipe.data.classes is None


OF_ITS_OWN = {
    *("name", "model.name", "micro_batch_size", "gradient_accumulation"),
    *("pipeline.splits", "pipeline.checkpoints"),
}


@pytest.mark.parametrize("size", ["d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x"])
def test_all_of_coco_are_one_recipe_but_for_model_passes_and_stages(size: str) -> None:
    first, other = flat(load_recipe("coco_d0")), flat(load_recipe(f"coco_{size}"))
    longer = {"trainer.max_steps"} if size in ("d7", "d7x") else set()
    assert {key for key in first if first[key] != other[key]} <= OF_ITS_OWN | longer
    assert other["model.name"] == f"efficientdet-{size}"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("coco_")])
def test_coco_is_trained_by_automls_schedule(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.images_per_step == 128
    epochs = 600 if name in ("coco_d7", "coco_d7x") else 300
    assert recipe.trainer.max_steps == epochs * (120_000 // 128)
    four = name in ("coco_d0", "coco_d1", "coco_d2", "coco_d3", "coco_d4")
    assert len(recipe.pipeline.splits) + 1 == (4 if four else 8)
    rate = learning_rate(recipe.optim, recipe.images_per_step, recipe.trainer.max_steps)
    assert rate(0) == pytest.approx(0.008 * 128 / 64)
    assert rate(120_000 // 128) == pytest.approx(0.08 * 128 / 64)
    assert rate(recipe.trainer.max_steps) == pytest.approx(0, abs=1e-9)
    assert learning_rate_line(recipe) == [
        "lr 0.08 is for 64 images per step, this run has 128: scaled to 0.16 (optim.scale_lr=true)"
    ]


def test_generated_is_a_small_sister_of_the_mixed_recipe() -> None:
    small, big = load_recipe("generated"), load_recipe("voc0712_mixed")
    assert small.pipeline.splits == big.pipeline.splits
    assert (small.model.weights, resolve(small).model.norm.name) == ("random", "batch")
    assert small.model.depth == 18


def test_the_page_of_recipes_has_every_key_and_every_recipe() -> None:
    page = (FOLDER.parent / "docs" / "recipes.md").read_text()
    rows = {row.split("|")[1].strip(" `"): row for row in page.splitlines() if row[:1] == "|"}
    assert set(NAMES) <= set(rows)
    for key in field_types(Recipe):
        section, _, rest = key.partition(".")
        row = rows[section if rest else "(none)"]
        assert f"`{rest or key}`" in row or f"`{key.rpartition('.')[2]}`" in row, key
