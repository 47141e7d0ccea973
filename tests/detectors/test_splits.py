"""Pipeline splits: names become blocks, and wrong names are explained."""

from __future__ import annotations

import pytest
import torch

from detectors import efficientdet
from detectors.models.efficientdet.inference import EfficientDet
from detectors.splits import apply_splits
from poplar_ops.runtime import IS_HOST, poptorch

if IS_HOST:
    from poptorch_host import host


@pytest.fixture
def model() -> EfficientDet:
    return efficientdet("d0", image_size=64, nms="none")


def test_splits_change_no_number(model: EfficientDet) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        before = model(images)
        after = apply_splits(model, ["backbone.stages.5", "network.bifpn", "class_head"])(images)
    for expected, actual in zip(before, after):
        assert torch.equal(expected, actual)


@pytest.mark.skipif(not IS_HOST, reason="reads poptorch_host's report")
def test_each_name_starts_the_next_stage(model: EfficientDet) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(images)
    options = poptorch.Options()
    options.setExecutionStrategy(poptorch.ShardedExecution())
    executor = poptorch.inferenceModel(
        apply_splits(model, ["bifpn", "class_head", "box_head"]), options
    )
    for actual, wanted in zip(executor(images), expected):
        torch.testing.assert_close(actual, wanted)
    assert len(host.report(executor).stages) == 4  # the backbone's, and one for each name


def test_splits_keep_parameter_names(model: EfficientDet) -> None:
    names = list(model.state_dict())
    assert list(apply_splits(model, ["bifpn.cells.1", "box_head"]).state_dict()) == names


def test_an_unknown_name_gets_children_and_nearest(model: EfficientDet) -> None:
    with pytest.raises(ValueError, match=r"children are \['network'.*did you mean.*class_head"):
        apply_splits(model, ["clas_head"])


def test_a_list_of_modules_is_refused(model: EfficientDet) -> None:
    with pytest.raises(ValueError, match=r"starts no stage; name one of \['bifpn.cells.0'"):
        apply_splits(model, ["bifpn.cells"])


def test_a_name_given_twice_is_refused(model: EfficientDet) -> None:
    with pytest.raises(ValueError, match="twice"):
        apply_splits(model, ["bifpn", "network.bifpn"])


def test_the_whole_model_is_no_split(model: EfficientDet) -> None:
    with pytest.raises(ValueError, match="no module"):
        apply_splits(model, [""])
