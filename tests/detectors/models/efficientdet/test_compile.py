"""Every model of the family compiles: one run under fake tensors that refuses what an IPU would."""

from __future__ import annotations

import pytest
import torch

import detectors
from detectors.folding import fold_batch_norm
from poplar_ops.runtime import IS_HOST, poptorch

pytestmark = pytest.mark.skipif(not IS_HOST, reason="the SDK's compiler takes an hour a model")

STANDARD = [
    f"efficientdet-{name}" for name in ("d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x")
]
OURS = {"poplar_ops::Nms", "poplar_ops::topk_select"}


@pytest.mark.parametrize("name", STANDARD)
def test_every_graph_compiles_with_listed_operators_and_ours(name: str) -> None:
    from poptorch_host import host

    model = fold_batch_norm(detectors.efficientdet(name))
    # An offline target compiles and takes no device: nothing is computed.
    options = poptorch.Options().useOfflineIpuTarget()
    executor = poptorch.inferenceModel(model, options)
    executor.compile(torch.zeros(1, 3, *model.config.image_size, dtype=torch.uint8))
    report = host.report(executor)
    assert report.unsupported == []
    assert {name for name in report.operators if not name.startswith("aten::")} == OURS
