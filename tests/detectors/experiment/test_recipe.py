"""Recipes by name and by file, changed by words: what is loaded, and what is refused and how."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

import pytest

from detectors.experiment import recipe_files
from detectors.experiment.complaints import field_types
from detectors.experiment.recipe import (
    DataFormat,
    Norm,
    Recipe,
    image_size,
    inference_options,
    list_recipes,
    load_recipe,
    poptorch_options,
    recipe_changes,
    recipe_yaml,
    resolve,
)
from detectors.experiment.recipe_checks import NICKNAMES, RULES
from poplar_ops.runtime import poptorch

MIXED = "voc0712_mixed"


def exactly(text: str) -> str:
    """A pattern that matches this text and no other."""
    return f"^{re.escape(text)}$"


def changed_keys(*overrides: str) -> List[str]:
    return [
        change.key for change in recipe_changes(load_recipe(MIXED), load_recipe(MIXED, overrides))
    ]


# ---- which file ----------------------------------------------------------------------------------


def test_a_name_is_a_file_of_the_recipes_folder_and_becomes_the_recipes_name() -> None:
    recipe = load_recipe(MIXED, ["optim.lr=0.01", "data.root=/d/VOCdevkit", "seed=3"])
    assert (recipe.name, recipe.optim.lr, recipe.data.root, recipe.seed) == (
        MIXED,
        0.01,
        "/d/VOCdevkit",
        3,
    )


def test_an_unknown_name_is_answered_with_the_nearest_and_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("generated", "voc0712_fp32", "voc0712_mixed"):
        (tmp_path / f"{name}.yaml").write_text(f"# What {name} is\n\nseed: 1\n")
    monkeypatch.setattr(recipe_files, "RECIPES", tmp_path)
    expected = """no recipe 'voc0712_mixd'
did you mean voc0712_mixed?
recipes: generated, voc0712_fp32, voc0712_mixed; or give a YAML file"""
    with pytest.raises(ValueError, match=exactly(expected)):
        load_recipe("voc0712_mixd")
    assert list_recipes()[0] == ("generated", "What generated is")


def test_a_path_is_a_recipe_of_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optim: {lr: 0.5}\naugment: none\n")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.optim.lr, recipe.augment.library) == ("mine", 0.5, "none")
    assert load_recipe(str(path)) == recipe


def test_the_config_of_a_run_keeps_the_name_of_its_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(MIXED, ["image.size=[320, 480]", "data.classes_alias={Cat: cat}"])
    (tmp_path / "config.yaml").write_text(recipe_yaml(recipe))
    assert load_recipe(tmp_path / "config.yaml") == recipe
    assert load_recipe(tmp_path).name == MIXED


def test_a_name_wins_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / MIXED).mkdir()
    (tmp_path / MIXED / "config.yaml").write_text("name: other\n")
    assert load_recipe(MIXED).name == MIXED
    with pytest.raises(ValueError, match="no recipe 'elsewhere'"):
        load_recipe("elsewhere")


def test_a_missing_file_is_named_with_the_recipe_that_is_meant() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"(?s)no recipe file .*did you mean recipe=voc0712_mixed\?"
    ):
        load_recipe("recipes/old/voc0712_mixed.yaml")


def test_an_unknown_key_of_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optim:\n  learning_rate: 0.5\n")
    with pytest.raises(ValueError, match=r"no key 'optim.learning_rate' in .*mine\.yaml; did you"):
        load_recipe(path)


# ---- words ---------------------------------------------------------------------------------------


def test_a_word_for_a_section_sets_what_it_is_about() -> None:
    recipe = load_recipe(MIXED, ["augment=albumentations", "image=512", "data=coco", "optim=adam"])
    assert recipe.augment.library == "albumentations"
    assert image_size(recipe) == (512, 512)
    assert recipe.data.format is DataFormat.coco
    assert recipe.optim.name.name == "adam"


def test_a_size_may_be_height_and_width() -> None:
    assert image_size(load_recipe(MIXED, ["image.size=[320, 480]"])) == (320, 480)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (
            "optim.learning_rate=.1",
            "no key 'optim.learning_rate' in voc0712_mixed; did you mean optim.lr (now 0.02)?",
        ),
        ("lr=.1", "no key 'lr' in voc0712_mixed; did you mean optim.lr (now 0.02)?"),
        ("batch=0", "no key 'batch' in voc0712_mixed; did you mean micro_batch_size (now 1)?"),
        (
            "epochs=9",
            "no key 'epochs' in voc0712_mixed; did you mean trainer.max_steps (now 18000)?",
        ),
        (
            "model.dept=18",
            "no key 'model.dept' in voc0712_mixed; did you mean model.depth (now 50)?",
        ),
        ("optim.lr=abc", "optim.lr must be a number > 0, got 'abc'"),
        ("optim.lr=-1", "optim.lr must be a number > 0, got -1.0"),
        ("optim.lr=.nan", "optim.lr must be a number > 0, got nan"),
        ("optim.lr=.inf", "optim.lr must be a number > 0, got inf"),
        ("seed=1.5", "seed must be a whole number 0..2147483647, got 1.5"),
        ("micro_batch_size=0", "micro_batch_size must be a whole number >= 1, got 0"),
        (
            "optim.schedule=cosin",
            "optim.schedule must be one of step, cosine, constant, got 'cosin';"
            " did you mean cosine?",
        ),
        (
            "augment=albumentation",
            "augment.library must be one of own, albumentations, none, got 'albumentation';"
            " did you mean albumentations?",
        ),
        ("model.depth=42", "model.depth must be one of 18, 34, 50, 101, got 42"),
        (
            "image.size=[800]",
            "image.size must be a whole number >= 32, or [height, width] of such, got [800]",
        ),
        (
            "image.size=big",
            "image.size must be a whole number >= 32, or [height, width] of such, got 'big'",
        ),
        (
            "augment.scale=[2, 1]",
            "augment.scale must be [smallest, largest], both > 0, got [2.0, 1.0]",
        ),
        (
            "optim.steps=[200, 100]",
            "optim.steps must be a list of ascending whole numbers > 0, got [200, 100]",
        ),
        (
            "run.loggers=[tensorbord]",
            "run.loggers must be a list of tensorboard, wandb, got ['tensorbord']",
        ),
        (
            "optim.steps=[1",
            "the value of optim.steps is not YAML: while parsing a flow sequence;"
            " a list has no blanks, or quotes around the word",
        ),
        ("data.train=[]", "data.train must be a list of at least one name, got []"),
        ("name=../x", "name must be a file's name, got '../x'"),
        ("trainer.max_time=1h", "trainer.max_time must be DD:HH:MM:SS, or null, got '1h'"),
        (
            "gradient_accumulation=4",
            "gradient_accumulation must be at least 7 to keep 4 pipeline stages busy, got 4;"
            " or pipeline.splits=[]",
        ),
        (
            "device_iterations=7",
            "trainer.max_steps must be a multiple of device_iterations=7, the steps of one call of"
            " the device, got 18000; 18004 would do",
        ),
        (
            "evaluate.metric=AP_coco",
            "evaluate.metric AP_coco needs coco in evaluate.flavours, got ['voc07', 'voc12']",
        ),
    ],
)
def test_a_mistake_is_answered_with_what_would_do(word: str, expected: str) -> None:
    with pytest.raises(ValueError, match=exactly(expected)):
        load_recipe(MIXED, [word])


def test_words_count_together() -> None:
    recipe = load_recipe(MIXED, ["gradient_accumulation=1", "pipeline.splits=[]"])
    assert (recipe.images_per_step, recipe.pipeline.splits) == (1, [])
    assert load_recipe(MIXED, ["task=evaluate", "weights=best.ckpt"]).weights == "best.ckpt"


@pytest.mark.parametrize("task", ["train", "check", "throughput"])
def test_weights_and_head_of_a_training_are_short_for_the_models(task: str, tmp_path: Path) -> None:
    short = load_recipe(MIXED, [f"task={task}", "weights=best.ckpt", "head=map"])
    long = load_recipe(MIXED, [f"task={task}", "model.weights=best.ckpt", "model.head=map"])
    assert recipe_changes(short, long) == []
    assert (short.weights, short.model.weights, short.model.head) == (None, "best.ckpt", "map")
    (tmp_path / "config.yaml").write_text(recipe_yaml(short))  # as a run folder has it
    assert load_recipe(tmp_path).model == short.model
    for key, value in (("weights", "best.ckpt"), ("head", "new")):
        with pytest.raises(ValueError, match=f"{key}= is short for model.{key}=, and both are"):
            load_recipe(MIXED, [f"{key}={value}", f"model.{key}={value}"])
    with pytest.raises(ValueError, match=r"model\.head must be one of new, map, got 'old'"):
        load_recipe(MIXED, ["head=old"])


def test_weights_without_a_name_are_refused() -> None:
    # an empty variable of a shell started the training from the recipe's weights
    with pytest.raises(ValueError, match=r"weights= names nothing .* for model\.weights=imagenet$"):
        load_recipe(MIXED, ["weights="])


def test_weights_of_a_stored_evaluation_start_no_training(tmp_path: Path) -> None:
    evaluated = load_recipe(MIXED, ["task=evaluate", "weights=best.ckpt"])
    (tmp_path / "config.yaml").write_text(recipe_yaml(evaluated))
    with pytest.raises(ValueError, match=r"weights: best\.ckpt, which is for task=evaluate"):
        load_recipe(tmp_path, ["task=train"])
    again = load_recipe(tmp_path, ["task=train", "weights=other.ckpt"])
    assert (again.weights, again.model.weights) == (None, "other.ckpt")


def test_rules_and_nicknames_are_of_keys_that_exist() -> None:
    known = set(field_types(Recipe))
    assert set(RULES) <= known
    assert set(NICKNAMES.values()) <= known
    assert not set(NICKNAMES) & known


def test_every_number_has_a_rule() -> None:
    numbers = {key for key, kind in field_types(Recipe).items() if kind in (int, float)}
    assert numbers <= set(RULES)


# ---- values --------------------------------------------------------------------------------------


def test_resolve_freezes_what_was_trained_before_and_trains_what_was_not() -> None:
    trained = resolve(load_recipe(MIXED)).model
    assert (trained.norm, trained.frozen_stages) == (Norm.frozen, 2)
    random = resolve(load_recipe(MIXED, ["model.weights=random"])).model
    assert (random.norm, random.frozen_stages) == (Norm.batch, 0)
    asked = resolve(load_recipe(MIXED, ["model.norm=batch", "model.frozen_stages=1"])).model
    assert (asked.norm, asked.frozen_stages) == (Norm.batch, 1)


def test_resolve_writes_out_the_variant() -> None:
    recipe = load_recipe(MIXED, ["model.variant=detectron2", "model.box_head.num_samples=64"])
    model = resolve(recipe).model
    assert (model.rpn.pre_nms, model.box_head.pool_size) == ([12000, 6000], 14)
    assert (model.box_head.num_samples, model.box_head.append_boxes) == (64, True)
    assert recipe.model.rpn.pre_nms is None


def test_resolve_leaves_nothing_to_resolve(tmp_path: Path) -> None:
    once = resolve(load_recipe(MIXED))
    assert resolve(once) == once
    (tmp_path / "config.yaml").write_text(recipe_yaml(once))
    assert load_recipe(tmp_path) == once


# ---- changes -------------------------------------------------------------------------------------


def test_the_same_recipe_has_no_changes_whatever_the_command_asks_for() -> None:
    assert changed_keys("resume=auto", "resume_changes=allow") == []


@pytest.mark.parametrize(
    ("word", "safe"),
    [
        ("device=cuda", True),
        ("data.workers=0", True),
        ("run.log_every_steps=1", True),
        ("checkpoint.every_steps=5", True),
        ("ipu.executable_cache=cache", True),
        ("evaluate.metric=AP50_voc12", False),
        ("device_iterations=2", False),
        ("evaluate.every_steps=5", True),
        ("trainer.max_steps=24000", True),
        ("trainer.max_steps=10", False),
        ("data.root=elsewhere", False),
        ("model.depth=18", False),
        ("gradient_accumulation=8", False),
        ("seed=1", False),
        ("optim.lr=0.01", False),
        ("precision=fp32", False),
    ],
)
def test_a_change_is_safe_when_it_does_not_reach_the_weights(word: str, safe: bool) -> None:
    (change,) = recipe_changes(load_recipe(MIXED), load_recipe(MIXED, [word]))
    assert change.key == word.partition("=")[0]
    assert change.safe is safe
    assert change.old != change.new


@pytest.mark.parametrize(("close", "safe"), [(0.1, False), (0.0, True)])
def test_more_steps_are_not_safe_where_mosaics_end_before_the_last(
    close: float, safe: bool
) -> None:
    words = ["augment.mosaic=0.5", f"augment.mosaic_close={close}"]
    longer = load_recipe(MIXED, [*words, "trainer.max_steps=60000"])
    (change,) = recipe_changes(load_recipe(MIXED, words), longer)
    assert change.safe is safe


def test_more_steps_are_not_safe_on_a_cosine() -> None:
    words = ["optim.schedule=cosine"]
    longer = load_recipe(MIXED, [*words, "trainer.max_steps=24000"])
    (change,) = recipe_changes(load_recipe(MIXED, words), longer)
    assert not change.safe


# ---- PopTorch ------------------------------------------------------------------------------------


def test_options_have_the_recipes_batch_and_return_every_loss() -> None:
    words = ["replication_factor=2", "device_iterations=3", "seed=7"]
    options = poptorch_options(load_recipe(MIXED, words))
    assert (options.replication_factor, options.device_iterations) == (2, 3)
    assert options.Training.gradient_accumulation == 16
    reduction = options.Training.accumulation_and_replication_reduction_type
    assert reduction is poptorch.ReductionType.Mean
    assert options.output_mode is poptorch.OutputMode.All
    assert options.random_seed == 7


def test_options_have_what_only_an_ipu_knows(tmp_path: Path) -> None:
    words = ["ipu.partials=half", f"ipu.executable_cache={tmp_path}"]
    options = poptorch_options(load_recipe(MIXED, words))
    assert options.available_memory_proportion == {0: 0.2, 1: 0.2, 2: 0.2, 3: 0.2}
    assert options.Precision.enable_stochastic_rounding
    popart = options._Popart.options
    assert popart["convolutionOptions"] == {"partialsType": "half"}
    assert popart["partialsTypeMatMuls"] == "half"
    assert popart["cachePath"] == str(tmp_path)


def test_stages_work_at_the_same_time_in_training_and_take_turns_in_evaluation() -> None:
    recipe = load_recipe(MIXED)
    training, evaluation = poptorch_options(recipe), inference_options(recipe)
    assert isinstance(training._execution_strategy, poptorch.PipelinedExecution)
    assert isinstance(evaluation._execution_strategy, poptorch.ShardedExecution)
    assert evaluation.Training.gradient_accumulation == 1
    assert (evaluation.device_iterations, evaluation.replication_factor) == (1, 1)


@pytest.mark.parametrize(("recompute", "kind"), [("true", 3), ("false", 0)])
def test_recomputation_is_said_either_way(recompute: str, kind: int) -> None:
    recipe = load_recipe(MIXED, [f"pipeline.recompute={recompute}"])
    assert poptorch_options(recipe)._Popart.options["autoRecomputation"] == kind


def test_checkpoints_without_recomputation_are_refused() -> None:
    words = ["pipeline.recompute=false", "pipeline.checkpoints=[rpn]"]
    with pytest.raises(ValueError, match=r"got 1 names and pipeline\.recompute=false: set"):
        load_recipe(MIXED, words)


def test_three_stages_may_reserve_four_ipus() -> None:
    recipe = load_recipe(MIXED, ["pipeline.splits=[rpn, box_head]"])
    assert poptorch_options(recipe).auto_round_num_ipus


def test_one_stage_needs_one_ipu_and_no_pipeline() -> None:
    options = poptorch_options(load_recipe(MIXED, ["pipeline.splits=[]"]))
    assert options.available_memory_proportion == {0: 0.2}
    assert "autoRecomputation" not in options._Popart.options
