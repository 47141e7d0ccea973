"""The operators under fake tensors, in compiled and exported graphs, and inside an executor."""

from __future__ import annotations

from typing import Any, List, Tuple

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import poplar_ops
from poplar_ops import plain
from poplar_ops.runtime import IS_HOST, poptorch

BOXES = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12]]])
SCORES = torch.tensor([[0.9, 0.8, 0.7]])
LABELS = torch.zeros(1, 3, dtype=torch.int32)
RAW_NMS = (SCORES.unsqueeze(2), BOXES, LABELS, 0.5, 0.0, 2, True, 0.0)


def detect(scores: Tensor, boxes: Tensor) -> Tuple[Tensor, ...]:
    """Both operators with work round them."""
    values, columns = poplar_ops.topk_select(scores * 1, 3)
    ordered = boxes.gather(1, columns.long().unsqueeze(2).expand(1, 3, 4))
    return tuple(poplar_ops.nms(values, ordered, max_detections=2))


class Detector(torch.nn.Module):
    """`detect` as a model."""

    def forward(self, scores: Tensor, boxes: Tensor) -> Any:
        return detect(scores, boxes)


def our_nodes(graph: torch.fx.Graph) -> List[str]:
    """Names of our operators in a graph."""
    return [str(node.target) for node in graph.nodes if "poplar_ops" in str(node.target)]


def test_fake_tensors_get_the_shapes_of_real_ones() -> None:
    with FakeTensorMode() as mode:
        fakes = detect(mode.from_tensor(SCORES), mode.from_tensor(BOXES))
    for fake, real in zip(fakes, detect(SCORES, BOXES)):
        assert fake.shape == real.shape
        assert fake.dtype == real.dtype


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_the_plain_path_never_waits_for_a_value(sigma: float) -> None:
    # Under fake tensors there are no values: .item(), nonzero and `if tensor:` raise. On CUDA each
    # of them would stop the host.
    with FakeTensorMode() as mode:
        scores, boxes, labels = (mode.from_tensor(t) for t in RAW_NMS[:3])
        assert plain.nms(scores, boxes, labels, 0.5, 0.0, 5, True, sigma)[0].shape == (1, 5, 4)
        assert plain.topk_select(scores.squeeze(2), 2)[0].shape == (1, 2)


@pytest.mark.skipif(not hasattr(torch.library, "opcheck"), reason="opcheck needs torch 2.4")
@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_opcheck_passes(sigma: float) -> None:
    nms, topk = torch.ops.poplar_ops.nms.default, torch.ops.poplar_ops.topk_select.default
    torch.library.opcheck(nms, (*RAW_NMS[:-1], sigma))
    torch.library.opcheck(topk, (SCORES, 2))


@pytest.mark.skipif(not hasattr(torch.library, "opcheck"), reason="needs torch 2.4 or later")
def test_compile_keeps_each_operator_as_one_node() -> None:
    graphs: List[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, example_inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(detect, fullgraph=True, backend=keep)
    for a, b in zip(compiled(SCORES, BOXES), detect(SCORES, BOXES)):
        assert torch.equal(a, b)
    assert len(graphs) == 1
    assert our_nodes(graphs[0].graph) == ["poplar_ops.topk_select", "poplar_ops.nms"]


@pytest.mark.skipif(not hasattr(torch, "export"), reason="torch.export needs torch 2.1")
def test_export_keeps_each_operator_as_one_node() -> None:
    program = torch.export.export(Detector(), (SCORES, BOXES))
    nodes = our_nodes(program.graph)
    assert nodes == ["poplar_ops.topk_select.default", "poplar_ops.nms.default"]
    for a, b in zip(program.module()(SCORES, BOXES), detect(SCORES, BOXES)):
        assert torch.equal(a, b)


@pytest.mark.skipif(not IS_HOST, reason="the report is the host runtime's")
def test_executor_runs_nms_as_the_custom_op() -> None:
    from poptorch_host import host

    model = poptorch.inferenceModel(Detector(), poptorch.Options())
    for a, b in zip(model(SCORES, BOXES), detect(SCORES, BOXES)):
        assert torch.equal(a, b)
    report = host.report(model)
    assert report.operators["poplar_ops::Nms"] == 1
    assert report.operators["poplar_ops::topk_select"] == 1
    assert report.unsupported == []
