"""What an EfficientDet's training starts from: kept, new or refused, in words."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import pytest
import torch
from torch import Tensor

from detectors import efficientdet
from detectors.commands.train.model import build_model, published_classifier
from detectors.experiment.recipe import load_recipe
from detectors.models.efficientdet.config import CONFIGS
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import LoadReport, known, save
from detectors.weights.effdet import to_effdet
from detectors.weights.family import Detector
from tests.small_runs import Run, Train, run_train, saved, voc_pictures

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

ANIMALS = ("cat", "dog", "cow")
LOGITS = "class_head.predict.pointwise."
SMALL = (
    "recipe=bccd_d0",
    "data.train=[train]",
    "data.val=[]",
    "data.workers=0",
    "image.size=64",
    "micro_batch_size=2",
    "model.pyramid.scale=null",
    "optim.warmup_steps=0",
    "optim.lr=1e-9",  # so that what a run saves is what it started from
    "optim.weight_decay=0",
    "trainer.max_steps=1",
    "evaluate.resamples=0",
    "device=cpu",
)


@pytest.fixture
def run(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Train D0 at 64 px for a step on pictures of these classes, in an empty folder."""

    def call(classes: Sequence[str], *words: object) -> Run:
        folder = voc_pictures(empty_folder / "-".join(classes), classes)
        (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets/Main/train.txt").write_text("0\n1\n")
        return run_train(capsys, *SMALL, f"data.root={folder}", *words)

    return call


def detector(num_classes: int, **settings: Any) -> EfficientDet:
    """A D0 at 64 px with random weights, class biases all different."""
    torch.manual_seed(3)
    model = efficientdet("d0", num_classes=num_classes, image_size=64, **settings)
    bias = model.network.get_parameter(f"{LOGITS}bias")
    bias.data = torch.linspace(-6, -5, len(bias))
    return model


def saved_by(folder: Path) -> Dict[str, Tensor]:
    """The weights at the end of a run, by the network's names."""
    content = saved(folder / "last.ckpt")["state_dict"]
    return {name.partition("network.")[2]: value for name, value in content.items()}


def rows(state: Dict[str, Tensor]) -> Tensor:
    """(9 anchors, classes) of the class layer's biases."""
    return state[f"{LOGITS}bias"].reshape(9, -1)


def build(
    weights: object, *words: str, classes: Sequence[str] = ANIMALS
) -> Tuple[Detector, LoadReport]:
    """The model of a training on these classes, and what it starts from."""
    recipe = load_recipe("bccd_d0", [*SMALL[1:], f"weights={weights}", *words])
    model, report = build_model(recipe, classes, quiet=True)
    assert report is not None
    return model, report


def same(one: Detector, two: Detector, part: str = "") -> bool:
    ours, theirs = one.network.state_dict(), two.network.state_dict()
    names = [n for n in ours if n.startswith(part) and "num_batches" not in n]
    return all(torch.equal(ours[name], theirs[name]) for name in names)


def close(one: Tensor, two: Tensor) -> bool:
    return torch.allclose(one, two, atol=1e-6)


def test_a_class_is_added_to_a_trained_detector(run: Train, tmp_path: Path) -> None:
    source = detector(3, anchor_aspects="rounded")
    save(source, tmp_path / "best.ckpt", classes=ANIMALS)
    four = ("cat", "cow", "dog", "hen")
    refused = run(four, "weights=best.ckpt")
    assert refused.code == 2
    assert refused.err.splitlines()[0].endswith(
        "checkpoint: 3 classes (cat, dog, cow); data: 4 (cat, cow, dog, hen)"
    )
    assert [line.strip() for line in refused.err.splitlines()[1:4]] == [
        "to fine-tune: weights=best.ckpt head=map keeps the rows of cat, cow, dog",
        "or: weights=best.ckpt head=new keeps none",
        "to map: data.classes=[cat,dog,cow]",
    ]
    assert not (tmp_path / "runs").exists()

    mapped = run(four, "weights=best.ckpt", "head=map", "optim.base_batch=16")
    assert mapped.code == 0, mapped.err
    assert (
        "lr 1e-09 is for 16 images per step, this run has 2: unchanged; the linear rule's 1.25e-10"
        " comes with optim.scale_lr=true"
    ) in mapped.out
    words = "weights best.ckpt (detectors), rows kept of cat, cow, dog; new: hen"
    assert words in mapped.out
    folder = tmp_path / "runs/bccd_d0/1"
    after, before = saved_by(folder), source.network.state_dict()
    assert close(rows(after)[:, :3], rows(before)[:, [0, 2, 1]])
    assert close(rows(after)[:, 3].sigmoid(), torch.full((9,), 0.01))  # the focal loss' prior
    trained = [n for n, _ in source.network.named_parameters() if not n.startswith(LOGITS)]
    assert all(close(after[name], before[name]) for name in trained)

    stored = load_recipe(folder)
    assert (stored.weights, stored.model.weights, stored.model.head) == (None, "best.ckpt", "map")
    same_words = ("weights=best.ckpt", "optim.base_batch=16")
    again = run(four, f"resume={folder}", *same_words, "head=map")
    assert again.code == 0, again.err
    assert "finished at step 1" in again.out
    other = run(four, f"resume={folder}", *same_words, "head=new")
    assert other.code == 2
    assert "model.head: map -> new" in other.err


def test_a_new_head_takes_no_row_of_the_same_classes(tmp_path: Path) -> None:
    path = save(detector(3), tmp_path / "best.ckpt", classes=ANIMALS)
    model, report = build(path, "head=new")
    words = "no row kept; new: cat, dog, cow"
    assert report.brief == f"best.ckpt (detectors), 3 new tensors (class_head), {words}"
    assert close(rows(model.network.state_dict()).sigmoid(), torch.full((9, 3), 0.01))


def test_cocos_90_outputs_become_three_by_their_names(run: Train, tmp_path: Path) -> None:
    source = detector(90)
    save(source, tmp_path / "coco.pth", layout="effdet")
    ours = ("cat", "dog", "person")
    refused = run(ours, "weights=coco.pth")
    assert refused.code == 2
    first, second, *_ = refused.err.splitlines()
    assert first.endswith(
        "checkpoint: 90 classes (person … toothbrush); data: 3 (cat, dog, person)"
    )
    assert second.endswith("weights=coco.pth head=map keeps the rows of cat, dog, person")
    assert "to map" not in refused.err  # 80 names of 90 labels are no list of classes

    model, report = build("coco.pth", "head=map", classes=ours)
    assert report.brief == "coco.pth (effdet), rows kept of cat, dog, person; none is new"
    after, before = model.network.state_dict(), source.network.state_dict()
    # COCO's ids: person 1, cat 17, dog 18; labels are one less
    assert torch.equal(rows(after), rows(before)[:, [16, 17, 0]])
    assert same(model, source, "b")  # backbone, bifpn, box_head
    assert isinstance(model, EfficientDet)
    assert model.config.anchor_aspects == "rounded"  # effdet's


def test_names_that_are_not_shared_cannot_be_mapped(run: Train, tmp_path: Path) -> None:
    save(detector(3), tmp_path / "best.ckpt", classes=ANIMALS)
    result = run(("hen", "pig"), "weights=best.ckpt", "head=map")
    assert result.code == 2
    first, second = result.err.splitlines()[:2]
    assert first.endswith(
        "checkpoint: 3 classes (cat, dog, cow); data: 2 (hen, pig);"
        " no name is in both, so head=map has no row to keep"
    )
    assert second == "  to fine-tune: weights=best.ckpt head=new"
    assert not (tmp_path / "runs").exists()


def test_settings_of_the_training_are_the_recipes_and_the_models_form_is_not(
    run: Train, tmp_path: Path
) -> None:
    source = detector(3, anchor_aspects="rounded")
    path = save(source, tmp_path / "best.ckpt", classes=ANIMALS)
    words = ("weights=best.ckpt", "data.classes=[cat,dog,cow]")
    scale = run(ANIMALS, *words, "model.pyramid.scale=3")
    assert scale.code == 2
    assert "anchor_scale 4.0 -> 3" in scale.err
    assert "set model.pyramid.scale=4.0" in scale.err
    larger = run(ANIMALS, "weights=best.ckpt", "model.name=efficientdet-d1", "head=map")
    assert larger.code == 2
    assert "set model.name=efficientdet-d0" in larger.err

    model, report = build(
        path,
        "image.size=128",
        "model.norm=frozen",
        "model.survival=0.9",
        "model.loss.gamma=2.0",
        "model.frozen=[backbone]",
    )
    assert isinstance(model, EfficientDet)
    config = model.config
    assert (config.image_size, config.norm, config.survival) == ((128, 128), "frozen", 0.9)
    assert (config.loss.gamma, config.frozen) == (2.0, ("backbone",))
    assert config.anchor_aspects == "rounded"  # the boxes are relative to these
    assert same(model, source)
    model, report = build(path, "head=map", "model.pyramid.scale=3")
    assert isinstance(model, EfficientDet)
    assert model.config.anchor_scale == 3
    assert "anchors of scale 3, the weights have 4.0: boxes begin off" in report.render()


def test_imagenet_is_timms_file_for_the_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = detector(3)
    theirs = to_effdet(source.network.state_dict(), source.config)
    state = {k[len("backbone.") :]: v for k, v in theirs.items() if k.startswith("backbone.")}
    torch.save({**state, "classifier.bias": torch.zeros(1000)}, tmp_path / "b0.pth")
    sha256 = hashlib.sha256((tmp_path / "b0.pth").read_bytes()).hexdigest()
    path = (tmp_path / "b0.pth").rename(tmp_path / f"tf_efficientnet_b0_aa-{sha256[:8]}.pth")
    row = known.KnownCheckpoint("efficientnet-b0", path.as_uri())
    monkeypatch.setitem(known.KNOWN, "tf_efficientnet_b0_aa", row)
    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path / "cache"))
    for weights in ("imagenet", str(path)):
        model, report = build(weights)
        assert same(model, source, "backbone.")
        assert report.brief.startswith(f"{path.name} (imagenet), ")
        assert report.brief.endswith("new tensors (bifpn, box_head, class_head)")
        assert report.skipped == ("classifier.bias",)
        assert "assumed" not in report.render()  # known by its hash
    with pytest.raises(ValueError, match="head=map keeps rows of classes, and tf_efficientnet_b0"):
        build(path, "head=map")
    with pytest.raises(ValueError, match=r"model\.weights=random has none"):
        build("random", "head=map")
    with pytest.raises(FileNotFoundError, match=r"no imagenett; did you mean imagenet\?"):
        build("imagenett")


def test_every_published_backbone_is_what_imagenet_means_for_a_model() -> None:
    meant = {published_classifier(config) for config in CONFIGS.values()}
    assert meant == {name for name, row in known.KNOWN.items() if row.origin == "timm"}


def test_what_is_evaluated_has_the_classes_of_the_data(run: Train, tmp_path: Path) -> None:
    save(detector(90), tmp_path / "coco.pth", layout="effdet")
    result = run(ANIMALS, "task=evaluate", "weights=coco.pth", "data.val=[train]")
    assert result.code == 2
    first = result.err.splitlines()[0]
    assert first.endswith("checkpoint: 90 classes (person … toothbrush); data: 3 (cat, cow, dog)")
    assert "fine-tune" not in result.err
