"""EfficientDet's anchors: any input size, any shapes, as many as the heads have outputs."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Tuple

import pytest
import torch
from torch import nn

import detectors
from detectors import efficientdet
from detectors.anchor_coverage import split_levels
from detectors.anchors import level_size
from detectors.models.efficientdet.anchors import build_anchors
from detectors.models.efficientdet.config import CONFIGS, EfficientDetConfig
from detectors.models.efficientdet.inference import build_efficientdet
from detectors.models.efficientdet.network import build_network
from detectors.postprocess import PostprocessConfig
from detectors.weights import load_weights, save
from detectors.weights.checkpoint import make_record, read_record

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

D0 = CONFIGS["efficientdet-d0"]
LEVELS = range(D0.min_level, D0.max_level + 1)
SIZES = [(100, 132), (511, 513), (64, 64), (1, 700), (640, 384)]
OWN = replace(
    D0,
    image_size=(96, 160),
    anchor_scale=(2.0, 2.5, 3.0, 4.0, 5.0),
    anchor_octaves=2,
    anchor_aspects=((1.0, 1.0), (1.3, 0.8), (0.5, 2.0), (2.5, 0.4)),
)
"""8 anchors on each cell."""


@pytest.mark.parametrize("size", SIZES)
def test_each_level_has_an_anchor_for_every_output_of_the_heads(size: Tuple[int, int]) -> None:
    config = replace(D0, image_size=size)
    maps = [level_size(size, level) for level in LEVELS]
    with torch.device("meta"):
        logits, deltas = build_network(config).eval()(torch.zeros(1, 3, *size))
    cells = [rows * columns * config.num_anchors for rows, columns in maps]
    assert [part.shape[1] for part in logits] == [part.shape[1] for part in deltas] == cells
    assert len(build_anchors(config)) == sum(cells)


@pytest.mark.parametrize("size", SIZES)
def test_centres_divide_each_axis_into_equal_cells(size: Tuple[int, int]) -> None:
    config = replace(D0, image_size=size)
    maps = [level_size(size, level) for level in LEVELS]
    for (rows, columns), level in zip(maps, split_levels(build_anchors(config), maps)):
        centres = (level[..., :2] + level[..., 2:]) / 2  # (rows, columns, A, 2) x, y
        y = (torch.arange(rows) + 0.5) * size[0] / rows
        x = (torch.arange(columns) + 0.5) * size[1] / columns
        torch.testing.assert_close(centres[..., 0], x[None, :, None].expand(rows, columns, 9))
        torch.testing.assert_close(centres[..., 1], y[:, None, None].expand(rows, columns, 9))


@pytest.mark.parametrize("size", [(100, 132), (511, 513), (256, 384)])
@pytest.mark.parametrize("config", [replace(D0, anchor_aspects="rounded"), OWN])
def test_anchors_equal_effdets(
    config: EfficientDetConfig, size: Tuple[int, int], effdet: Any
) -> None:
    peer: Any = importlib.import_module("effdet.anchors")
    config = replace(config, image_size=size)
    theirs = peer.Anchors(
        config.min_level,
        config.max_level,
        config.anchor_octaves,
        config.anchor_factors,
        config.anchor_scale,
        size,
    ).boxes[:, [1, 0, 3, 2]]  # they are y, x
    torch.testing.assert_close(build_anchors(config), theirs, rtol=0, atol=1e-3)


def test_scales_and_shapes_by_hand() -> None:
    config = replace(
        D0,
        image_size=(128, 128),
        anchor_scale=(1.0, 2.0, 3.0, 4.0, 5.0),
        anchor_octaves=1,
        anchor_aspects=((1.0, 1.0), (1.5, 0.5)),
    )
    levels = split_levels(build_anchors(config), [level_size((128, 128), n) for n in LEVELS])
    for level, scale, stride in zip(levels, (1, 2, 3, 4, 5), (8, 16, 32, 64, 128)):
        size = (level[..., 2:] - level[..., :2])[0, 0]
        side = float(scale * stride)
        torch.testing.assert_close(size, torch.tensor([[side, side], [1.5 * side, 0.5 * side]]))


def test_heads_follow_the_number_of_shapes() -> None:
    network = build_network(replace(OWN, num_classes=3))
    for head, outputs in ((network.class_head, 8 * 3), (network.box_head, 8 * 4)):
        assert isinstance(head.predict.pointwise, nn.Conv2d)
        assert head.predict.pointwise.out_channels == outputs


def test_a_detector_with_own_anchors_trains_and_detects_with_the_same() -> None:
    torch.manual_seed(0)
    model = build_efficientdet(replace(OWN, num_classes=3), PostprocessConfig())
    training = model.for_training()
    assert torch.equal(training.anchors(), model.postprocess.anchors())
    assert torch.equal(training.anchors(), build_anchors(model.config))
    boxes = build_anchors(model.config)[None, 200:201]  # one object, just on an anchor
    images = torch.zeros(1, 3, 96, 160, dtype=torch.uint8)
    loss, losses = training(images, boxes, torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1))
    assert loss.isfinite()
    assert losses.shape == (2,)
    detections = model.eval()(images)
    assert detections.boxes.shape == (1, 100, 4)


def test_a_checkpoint_keeps_own_anchors(tmp_path: Path) -> None:
    model = build_efficientdet(replace(OWN, num_classes=2), PostprocessConfig())
    path = save(model, tmp_path / "own.pt", classes=["a", "b"])
    loaded = detectors.load(path)
    assert loaded.config == model.config  # tuples in tuples again
    assert torch.equal(loaded.postprocess.anchors(), build_anchors(OWN))
    report = load_weights(build_efficientdet(model.config, PostprocessConfig()), path)
    assert "shapes 1x1, 1.3x0.8, 0.5x2, 2.5x0.4" in report.render()
    with pytest.raises(ValueError, match="anchor_scale"):
        load_weights(efficientdet("d0", num_classes=2), path)
    fewer = replace(model.config, anchor_aspects=OWN.anchor_factors[:2])
    with pytest.raises(ValueError, match="has 8 anchors a cell, the model 4: octaves times"):
        load_weights(build_efficientdet(fewer, PostprocessConfig()), path, head="new")


def test_records_from_before_own_shapes_are_read() -> None:
    model = efficientdet("d0", num_classes=2, image_size=64, anchor_aspects="rounded")
    record = make_record(model)
    for later in ("loss", "survival", "norm", "frozen"):
        del record["config"][later]
    assert record["version"] == 1
    assert record["config"]["anchor_scale"] == 4.0
    assert read_record(record, Path("old.pt")).config == model.config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"anchor_scale": 0.0}, "a number > 0, or one for each of the 5 levels 3..7, got 0.0"),
        ({"anchor_scale": (4.0,)}, r"one for each of the 5 levels 3..7, got \(4.0,\)"),
        ({"anchor_scale": (1.0, 2.0, 3.0, 4.0, float("inf"))}, "a number > 0"),
        ({"anchor_octaves": 0}, "anchor_octaves must be at least 1, got 0"),
        ({"anchor_aspects": ()}, "pairs of .width, height. factors > 0"),
        ({"anchor_aspects": ((1.0, 0.0),)}, "pairs of .width, height. factors > 0"),
        ({"anchor_aspects": (1.0, 2.0)}, "pairs of .width, height. factors > 0"),
        ({"anchor_aspects": "square"}, "exact or rounded, or pairs"),
    ],
)
def test_what_makes_no_anchor_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(D0, **wrong)


def test_a_built_model_keeps_its_number_of_anchors() -> None:
    model = efficientdet("d0", num_classes=2, image_size=64)
    shapes = ((1.0, 1.0), (1.2, 0.8), (0.8, 1.2))
    model.configure(anchor_aspects=shapes)
    assert torch.equal(model.postprocess.anchors(), build_anchors(model.config))
    with pytest.raises(ValueError, match="make 6 anchors a cell, the heads have outputs for 9"):
        model.configure(anchor_aspects=shapes[:2])
