"""From a recipe to a detector: what it starts from is what was asked for, or a refusal in words."""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch

from detectors.commands.train.model import build_model, configuration, load_detector
from detectors.experiment.recipe import Norm, Recipe
from detectors.layers import FrozenBatchNorm2d
from detectors.models.faster_rcnn.config import CONFIGS, FasterRCNNConfig
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.weights import known, save
from detectors.weights.family import Detector

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

NAMES = ["cat", "dog", "cow"]


def tiny(weights: str = "random", **settings: Any) -> Recipe:
    """A ResNet-18 C4 at 64 px."""
    recipe = Recipe()
    recipe.image.size = 64
    recipe.model.depth = 18
    recipe.model.rpn.channels = 8
    recipe.model.weights = weights
    for name, value in settings.items():
        setattr(recipe.model, name, value)
    return recipe


def same(one: Detector, two: Detector, part: str = "") -> bool:
    ours, theirs = one.network.state_dict(), two.network.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith(part))


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A ResNet-18 of torchvision's, named after its hash as published files are."""
    model, _ = build_model(tiny(), NAMES)
    state = {name: value + 1 for name, value in model.network.backbone.state_dict().items()}
    torch.save({**state, "fc.weight": torch.zeros(1000, 512)}, tmp_path / "resnet18.pth")
    sha256 = hashlib.sha256((tmp_path / "resnet18.pth").read_bytes()).hexdigest()
    return (tmp_path / "resnet18.pth").rename(tmp_path / f"resnet18-{sha256[:8]}.pth")


def test_random_weights_depend_on_the_seed_alone() -> None:
    recipe = tiny()
    torch.manual_seed(5)
    one, report = build_model(recipe, NAMES)
    drawn = torch.rand(1)
    two, _ = build_model(recipe, NAMES)
    recipe.seed = 1
    three, _ = build_model(recipe, NAMES)
    assert report is None
    assert same(one, two)
    assert not same(one, three)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)  # and leave the caller's generator alone


def test_the_configuration_is_the_variants_with_what_the_recipe_changes() -> None:
    recipe = tiny(variant="detectron2")
    recipe.image.size = [96, 64]
    recipe.model.anchors.sizes = [16, 32]
    recipe.model.rpn.post_nms = [50, 20]
    recipe.model.box_head.score_threshold = 0.2
    config = configuration(recipe, 3)
    assert isinstance(config, FasterRCNNConfig)
    variant = CONFIGS["detectron2"]
    assert (config.name, config.depth, config.image_size) == ("faster_rcnn-r18_c4", 18, (96, 64))
    assert (config.norm, config.frozen_stages) == ("batch", 0)  # random weights train everything
    assert config.anchors.sizes == (16, 32)
    assert config.anchors.ratios == variant.anchors.ratios
    assert config.rpn.post_nms == (50, 20)
    assert config.rpn.objectness == "sigmoid"
    assert config.box_head.score_threshold == 0.2
    assert config.box_head.pool_size == variant.box_head.pool_size
    recipe.model.weights = "imagenet"
    frozen = configuration(recipe, 3)
    assert isinstance(frozen, FasterRCNNConfig)
    assert (frozen.norm, frozen.frozen_stages) == ("frozen", 2)
    recipe.model.norm = Norm.batch
    assert configuration(recipe, 3).norm == "batch"


def test_imagenet_is_torchvisions_file_fetched_once(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path / "cache"))
    published = known.KnownCheckpoint("resnet18", classifier.as_uri())
    monkeypatch.setitem(known.KNOWN, "resnet18", published)
    model, report = build_model(tiny("imagenet"), NAMES, quiet=True)
    assert report is not None
    assert report.origin == "torchvision"
    assert report.class_names == tuple(NAMES)
    assert len(report.kept) == 10
    fresh, _ = build_model(tiny("random", norm=Norm.frozen), NAMES)
    assert same(model, fresh, "rpn.")
    assert same(model, fresh, "box_head.")
    stem = torch.load(classifier, weights_only=True)["conv1.weight"]
    assert isinstance(model, FasterRCNN)
    assert torch.equal(model.network.backbone.conv1.weight, stem)
    assert isinstance(model.network.backbone.layer3.get_submodule("0.bn1"), FrozenBatchNorm2d)
    touched = "urllib.request.urlopen"
    monkeypatch.setattr(touched, lambda *_, **__: pytest.fail("the network was touched"))
    again, _ = build_model(tiny("imagenet"), NAMES, quiet=True)
    assert same(model, again)


def test_weights_that_cannot_be_had_are_never_replaced_by_random_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(RuntimeError, match="cannot download weights: no connection") as caught:
        build_model(tiny("imagenet"), NAMES, quiet=True)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 5
    assert lines[1].endswith("https://download.pytorch.org/models/resnet18-f37072fd.pth")
    assert lines[2].endswith("f37072fd…")
    assert lines[3].endswith(str(tmp_path / "torchvision" / "resnet18-f37072fd.pth"))
    assert lines[4].endswith("model.weights=FILE")
    with pytest.raises(FileNotFoundError, match=r"model\.weights must be .* no .*none\.pth"):
        build_model(tiny(str(tmp_path / "none.pth")), NAMES)


def test_fine_tuning_starts_from_a_detector_of_the_same_classes(tmp_path: Path) -> None:
    source, _ = build_model(tiny(), NAMES)
    path = save(source, tmp_path / "best.ckpt", classes=NAMES)
    model, report = build_model(tiny(str(path), norm=Norm.batch), NAMES)
    assert same(model, source)
    assert report is not None
    assert report.kept == ()
    with pytest.raises(ValueError, match="checkpoint: 3 classes") as caught:
        build_model(tiny(str(path)), ["cow", "pig"])
    assert str(caught.value).splitlines() == [
        "checkpoint: 3 classes (cat, dog, cow); data: 2 (cow, pig)",
        f"  to fine-tune: weights={path} head=map keeps the rows of cow",
        f"            or: weights={path} head=new keeps none",
        "  to map: data.classes=[cat,dog,cow]",
    ]
    model, report = build_model(tiny(str(path), head="map"), ["cow", "pig"])
    assert report is not None
    assert report.head == "rows kept of cow; new: pig"
    model, report = build_model(tiny(str(path), head="new"), ["cow", "pig"])
    assert report is not None
    assert report.head == "no row kept; new: cow, pig"


def test_another_form_is_refused_in_the_recipes_words(tmp_path: Path, classifier: Path) -> None:
    source, _ = build_model(tiny(variant="detectron2"), NAMES)
    path = save(source, tmp_path / "best.ckpt", classes=NAMES)
    recipe = tiny(str(path), depth=34)
    recipe.model.rpn.channels = 16
    with pytest.raises(ValueError, match="they differ in") as caught:
        build_model(recipe, NAMES)
    words = "  set model.variant=detectron2 model.depth=18 model.rpn.channels=8"
    assert str(caught.value).splitlines()[-1] == words
    with pytest.raises(ValueError, match=r"\n  set model\.stride_in_1x1=false"):
        build_model(tiny(str(classifier), stride_in_1x1=True), NAMES)


def test_where_the_name_is_the_same_the_refusal_names_what_was_set(tmp_path: Path) -> None:
    # it said model.name=efficientdet-d0 to who had it already, and model.variant=seed likewise
    recipe = Recipe(micro_batch_size=2)
    recipe.model.name, recipe.model.weights, recipe.image.size = "efficientdet-d0", "random", 64
    path = save(build_model(recipe, NAMES)[0], tmp_path / "d0.pt", classes=NAMES)
    recipe.model.weights, recipe.model.pyramid.octaves = str(path), 2
    with pytest.raises(ValueError, match=r"octaves 3 -> 2\n  set model\.pyramid\.octaves=3$"):
        build_model(recipe, NAMES)
    path = save(build_model(tiny(), NAMES)[0], tmp_path / "seed.pt", classes=NAMES)
    other = tiny(str(path), norm=Norm.batch)
    other.model.anchors.ratios = [1.0]
    with pytest.raises(ValueError, match=r"\n  set model\.anchors\.ratios=\[0\.5,1\.0,2\.0\]$"):
        build_model(other, NAMES)


@pytest.mark.parametrize(("head", "refused"), [("new", True), ("map", False)])
def test_what_starts_at_random_is_not_frozen(tmp_path: Path, head: str, refused: bool) -> None:
    # a new class layer below model.frozen=[class_head] never learnt
    recipe = Recipe(micro_batch_size=2)
    recipe.model.name, recipe.model.weights, recipe.image.size = "efficientdet-d0", "random", 64
    path = save(build_model(recipe, NAMES)[0], tmp_path / "d0.pt", classes=NAMES)
    recipe.model.weights, recipe.model.head = str(path), head
    recipe.model.frozen = ["backbone", "class_head"]
    if not refused:
        assert build_model(recipe, NAMES)[1] is not None
        return
    with pytest.raises(ValueError, match=r"3 tensors of it \(class_head\) .* leave class_head out"):
        build_model(recipe, NAMES)


def test_a_run_that_goes_on_has_the_model_of_its_checkpoint(tmp_path: Path) -> None:
    source, _ = build_model(tiny(), NAMES)
    source.configure(mean=(120.0, 110.0, 100.0), std=(1.0, 1.0, 1.0))  # as Caffe's weights ask for
    path = save(source, tmp_path / "last.ckpt", classes=NAMES)
    model, _ = build_model(tiny("imagenet"), NAMES, checkpoint=path)
    assert model.config == source.config
    assert torch.equal(model.normalise.mean, source.normalise.mean)
    assert same(model, source)


def test_what_is_evaluated_is_complete(tmp_path: Path, classifier: Path) -> None:
    recipe = tiny("imagenet")
    with pytest.raises(ValueError, match="without a detection head: 10 tensors"):
        load_detector(recipe, NAMES, classifier)
    source, _ = build_model(tiny(), NAMES)
    path = save(source, tmp_path / "best.ckpt", classes=NAMES)
    model, report = load_detector(recipe, NAMES, path)
    assert model.config == source.config
    assert report.class_names == tuple(NAMES)
    with pytest.raises(ValueError, match=r"data: 1 \(cat\)\n  to map: data\.classes="):
        load_detector(recipe, ["cat"], path)
    torch.save(source.network.state_dict(), tmp_path / "bare.pth")  # the recipe says the rest
    recipe.model.norm = Norm.batch
    model, report = load_detector(recipe, NAMES, tmp_path / "bare.pth")
    assert isinstance(model, FasterRCNN)
    assert same(model, source)
    assert "the file has no record" in report.render()


def test_one_value_per_channel_is_refused_before_torch_does() -> None:
    recipe = Recipe(micro_batch_size=1)
    recipe.model.name, recipe.model.weights, recipe.image.size = "efficientdet-d0", "random", 128
    with pytest.raises(ValueError, match=r"128x128 is one cell .* micro_batch_size=2"):
        build_model(recipe, NAMES)
    recipe.model.norm = Norm.frozen
    assert build_model(recipe, NAMES)[1] is None
