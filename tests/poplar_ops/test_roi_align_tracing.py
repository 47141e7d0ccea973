"""ROI-Align without values: fake tensors, torch.compile, torch.export, the executor."""

from __future__ import annotations

from typing import List

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import poplar_ops
from poplar_ops import plain
from poplar_ops.roi_align import run_on_host
from poplar_ops.runtime import IS_HOST, poptorch
from tests.poplar_ops.roi_align_inputs import MAP, ROIS, gradient, random_map

RAW = (MAP, ROIS, 2, 3, 1.0, 2, True)


@pytest.mark.parametrize("ratio", [0, 2])
def test_the_plain_path_never_waits_for_a_value(ratio: int) -> None:
    # Under fake tensors there are no values: .item(), nonzero and `if tensor:` raise.
    with FakeTensorMode() as mode:
        features, rois = mode.from_tensor(MAP), mode.from_tensor(ROIS)
        pooled = plain.roi_align(features, rois, 2, 3, 1.0, ratio, True)
        assert pooled.shape == (2, 4, 3, 2, 3)
        back = plain.roi_align_backward(pooled, rois, 8, 9, 1.0, ratio, True)
        assert back.shape == (2, 3, 8, 9)


def test_fake_tensors_get_the_shapes_of_real_ones() -> None:
    half = MAP.half()
    with FakeTensorMode() as mode:
        features = mode.from_tensor(half).requires_grad_()
        fake = poplar_ops.roi_align(features, mode.from_tensor(ROIS), (2, 3))
        (grad,) = torch.autograd.grad(fake.sum(), features)
    assert (fake.shape, fake.dtype) == ((2, 4, 3, 2, 3), torch.float16)
    assert (grad.shape, grad.dtype) == ((2, 3, 8, 9), torch.float16)


@pytest.mark.skipif(not hasattr(torch.library, "opcheck"), reason="opcheck needs torch 2.4")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # opcheck's own
@pytest.mark.parametrize("ratio", [0, 2])
def test_opcheck_passes(ratio: int) -> None:
    operators = torch.ops.poplar_ops
    features = MAP.clone().requires_grad_()
    torch.library.opcheck(operators.roi_align.default, (features, *RAW[1:5], ratio, True))
    grad = random_map(2, 4, 3, 2, 3).requires_grad_()
    arguments = (grad, ROIS, 8, 9, 1.0, ratio, True)
    torch.library.opcheck(operators.roi_align_backward.default, arguments)


def our_nodes(graph: torch.fx.Graph) -> List[str]:
    """Names of our operators in a graph."""
    return [str(node.target) for node in graph.nodes if "poplar_ops" in str(node.target)]


@pytest.mark.skipif(not hasattr(torch.library, "opcheck"), reason="needs torch 2.4 or later")
def test_compile_keeps_one_node_and_its_gradient() -> None:
    graphs: List[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, example_inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    def model(features: Tensor, rois: Tensor) -> Tensor:
        return poplar_ops.roi_align(features * 2, rois, (2, 3), 1.0, 2, True).sin()

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=keep)
    grad = random_map(2, 4, 3, 2, 3)
    assert torch.equal(
        gradient(lambda x: compiled(x, ROIS), MAP, grad),
        gradient(lambda x: model(x, ROIS), MAP, grad),
    )
    assert [our_nodes(graph.graph) for graph in graphs] == [["poplar_ops.roi_align"]]


class Pool(torch.nn.Module):
    """The operator as a model."""

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        return poplar_ops.roi_align(features, rois, (2, 3), 1.0, 2, True)


@pytest.mark.skipif(not hasattr(torch, "export"), reason="torch.export needs torch 2.1")
def test_export_keeps_one_node() -> None:
    program = torch.export.export(Pool(), (MAP, ROIS))
    assert our_nodes(program.graph) == ["poplar_ops.roi_align.default"]
    assert torch.equal(program.module()(MAP, ROIS), Pool()(MAP, ROIS))


@pytest.mark.skipif(not IS_HOST, reason="the report is the host runtime's")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_executor_runs_it_as_the_custom_op(dtype: torch.dtype) -> None:
    from poptorch_host import host

    model = poptorch.inferenceModel(Pool(), poptorch.Options())
    found = model(MAP.to(dtype), ROIS)
    assert torch.equal(found, Pool()(MAP.to(dtype), ROIS))
    report = host.report(model)
    assert report.operators["poplar_ops::RoiAlign"] == 1
    assert report.unsupported == []


@pytest.mark.skipif(not IS_HOST, reason="the SDK runs its own operator")
def test_gradients_flow_through_what_the_host_runs_for_the_custom_op() -> None:
    names = ("output_height", "output_width", "spatial_scale", "sampling_ratio", "aligned")
    attributes = dict(zip(names, (2, 3, 1.0, 2, 1)))
    grad = random_map(2, 4, 3, 2, 3)
    found = gradient(lambda x: run_on_host([x, ROIS], attributes)[0], MAP, grad)
    assert torch.equal(found, gradient(lambda x: Pool()(x, ROIS), MAP, grad))
