"""Both graphs compile: one run under fake tensors that refuses what an IPU would."""

from __future__ import annotations

from typing import Callable, List

import pytest
import torch

from detectors.models.faster_rcnn.config import CONFIGS
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.splits import apply_splits
from poplar_ops.runtime import IS_HOST, poptorch

pytestmark = pytest.mark.skipif(not IS_HOST, reason="the SDK's compiler takes an hour a model")

Detector = Callable[..., FasterRCNN]
OURS = {"poplar_ops::Nms", "poplar_ops::RoiAlign", "poplar_ops::topk_select"}
IMAGES = torch.zeros(1, 3, 96, 128, dtype=torch.uint8)
TRUTH = (
    torch.zeros(1, 7, 4),
    torch.zeros(1, 7, dtype=torch.int32),
    torch.zeros(1, dtype=torch.int32),
)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("variant", list(CONFIGS))
def test_inference_compiles_with_listed_operators_and_ours(
    variant: str, depth: int, detector: Detector
) -> None:
    from poptorch_host import host

    model = detector(variant, depth=depth, norm="frozen")
    # An offline target compiles and takes no device: nothing is computed.
    executor = poptorch.inferenceModel(model, poptorch.Options().useOfflineIpuTarget())
    executor.compile(IMAGES)
    report = host.report(executor)
    assert report.unsupported == []
    assert {name for name in report.operators if not name.startswith("aten::")} == OURS


@pytest.mark.parametrize("variant", list(CONFIGS))
def test_the_loss_compiles_with_listed_operators_and_ours(variant: str, detector: Detector) -> None:
    from poptorch_host import host

    training = detector(variant, norm="frozen").for_training()
    executor = poptorch.inferenceModel(training, poptorch.Options().useOfflineIpuTarget())
    executor.compile(IMAGES, *TRUTH)
    report = host.report(executor)
    assert report.unsupported == []
    own = {name for name in report.operators if not name.startswith(("aten::", "poptorch::"))}
    assert own == OURS


@pytest.mark.parametrize(
    "splits",
    [
        ["rpn", "backbone.layer4.0", "backbone.layer4.1"],
        ["backbone.layer1", "backbone.layer2", "backbone.layer3", "rpn"]
        + ["backbone.layer4.0", "backbone.layer4.1", "box_head"],
    ],
)
def test_each_stage_is_entered_once(splits: List[str], detector: Detector) -> None:
    from poptorch_host import host

    training = apply_splits(detector("seed", norm="frozen").for_training(), splits)
    count = len(splits) + 1
    options = poptorch.Options().useOfflineIpuTarget().deviceIterations(count)
    executor = poptorch.inferenceModel(training, options)
    # A pipeline that comes back to a stage is refused.
    executor.compile(*(value.repeat(count, *[1] * (value.dim() - 1)) for value in (IMAGES, *TRUTH)))
    assert len(host.report(executor).stages) == count


def test_a_half_trunk_detects_as_the_float_one(detector: Detector) -> None:
    model = detector("seed", norm="frozen")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        expected = model(images)
    model.network.backbone.half()
    model.network.rpn.half()
    found = poptorch.inferenceModel(model)(images)
    assert torch.equal(found.count, expected.count)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=2e-3)
