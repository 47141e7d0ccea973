"""ROI-Align's gradient: torchvision's, a slow reference's, gradcheck."""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import library, plain, reference
from poplar_ops.roi_align import run_compiled_backward
from tests.poplar_ops.roi_align_inputs import CASES, Size, gradient, random_map, random_rois


@pytest.mark.parametrize("ratio", [0, 2])
def test_no_regions_give_an_empty_result_and_no_gradient(ratio: int) -> None:
    features = random_map(2, 3, 4, 4).requires_grad_()
    found = poplar_ops.roi_align(features, torch.zeros(2, 0, 4), 7, 1.0, ratio, True)
    assert found.shape == (2, 0, 3, 7, 7)
    (grad,) = torch.autograd.grad(found.sum(), features)
    assert grad.abs().max() == 0
    rois = torch.zeros(2, 0, 4)
    assert plain.roi_align(features, rois, 7, 7, 1.0, ratio, True).shape == (2, 0, 3, 7, 7)
    assert plain.roi_align_backward(found, rois, 4, 4, 1.0, ratio, True).abs().max() == 0


@pytest.mark.parametrize(("shape", "size", "ratio", "aligned"), CASES)
def test_gradients_equal_the_references(
    shape: Tuple[int, ...], size: Size, ratio: int, aligned: bool
) -> None:
    features, rois = random_map(*shape), random_rois(shape[0], 5, shape[2:], 1 / 8)  # type: ignore[arg-type]
    grad = random_map(shape[0], 5, shape[1], *size)
    expected = gradient(
        lambda x: reference.roi_align(x, rois, *size, 1 / 8, ratio, aligned), features, grad
    )
    tolerance = 2e-5 * float(expected.abs().max().clamp(min=1))
    ways: List[Callable[..., Tensor]] = [plain.roi_align_backward]
    if library.LIBRARY is not None:
        ways.append(run_compiled_backward)
    found = [way(grad, rois, *shape[2:], 1 / 8, ratio, aligned) for way in ways]
    found.append(
        gradient(
            lambda x: poplar_ops.roi_align(x, rois, size, 1 / 8, ratio, aligned), features, grad
        )
    )
    for one in found:
        torch.testing.assert_close(one, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 5])
def test_equals_torchvision_forward_and_backward(ratio: int, aligned: bool) -> None:
    peer = pytest.importorskip("torchvision.ops", reason="the peer of this test")
    features, rois = random_map(2, 20, 25, 38), random_rois(2, 40, (25, 38), 1 / 16)
    indexed = torch.cat(
        [torch.arange(2.0).repeat_interleave(40).view(80, 1), rois.flatten(0, 1)], 1
    )
    for size in ((14, 14), (3, 7)):
        grad = torch.rand(2, 40, 20, *size)

        def theirs(x: Tensor, size: Size = size) -> Tensor:
            pooled: Tensor = peer.roi_align(x, indexed, size, 1 / 16, ratio, aligned)
            return pooled.view(2, 40, 20, *size)

        def ours(x: Tensor, size: Size = size) -> Tensor:
            return poplar_ops.roi_align(x, rois, size, 1 / 16, ratio, aligned)

        torch.testing.assert_close(ours(features), theirs(features), rtol=0, atol=1e-5)
        expected = gradient(theirs, features, grad)
        unit = float(expected.abs().max().clamp(min=1))
        found = gradient(ours, features, grad)
        torch.testing.assert_close(found / unit, expected / unit, rtol=0, atol=2e-5)


class PlainRoiAlign(torch.autograd.Function):
    """The plain forward with the plain backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, ratio: int) -> Tensor:
        ctx.rois, ctx.ratio, ctx.size = rois, ratio, features.shape[2:]
        return plain.roi_align(features, rois, 2, 3, 0.5, ratio, True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        height, width = ctx.size
        back = plain.roi_align_backward(grad, ctx.rois, height, width, 0.5, ctx.ratio, True)
        return back, None, None


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradcheck_in_double(ratio: int) -> None:
    rois = random_rois(2, 1, (3, 4), 0.5)
    features = random_map(2, 2, 3, 4).double().requires_grad_()

    def by_reference(x: Tensor) -> Tensor:
        return reference.roi_align(x, rois, 2, 3, 0.5, ratio, True)

    assert torch.autograd.gradcheck(by_reference, (features,))
    assert torch.autograd.gradcheck(lambda x: PlainRoiAlign.apply(x, rois, ratio), (features,))


@pytest.mark.filterwarnings("ignore:.*not a double precision:UserWarning")  # linear: exact anyway
@pytest.mark.parametrize("ratio", [0, 2])
def test_gradcheck_of_the_operator_and_of_its_gradient(ratio: int) -> None:
    rois = random_rois(2, 2, (3, 4), 0.5)
    features = random_map(2, 2, 3, 4).requires_grad_()

    def call(x: Tensor) -> Tensor:
        return poplar_ops.roi_align(x, rois, (2, 3), 0.5, ratio, True)

    assert torch.autograd.gradcheck(call, (features,), eps=0.5, atol=1e-5)
    grad = random_map(2, 2, 2, 2, 3).requires_grad_()

    def back(g: Tensor) -> Tensor:
        pulled: Tensor = torch.ops.poplar_ops.roi_align_backward(g, rois, 3, 4, 0.5, ratio, True)
        return pulled

    assert torch.autograd.gradcheck(back, (grad,), eps=0.5, atol=1e-5)


def test_a_gradient_of_stride_0_is_not_walked() -> None:
    # Story: `.sum().backward()` delivers an expanded tensor; kernels that trust its sizes read
    # beyond its one element.
    rois = random_rois(1, 4, (6, 6), 1.0)
    features = random_map(1, 3, 6, 6).requires_grad_()
    pooled = poplar_ops.roi_align(features, rois, 3, sampling_ratio=2)
    (grad,) = torch.autograd.grad(pooled.sum(), features)
    ones = torch.ones(1, 4, 3, 3, 3)
    expected = plain.roi_align_backward(ones, rois, 6, 6, 1.0, 2, False)
    torch.testing.assert_close(grad, expected)


def test_no_gradient_flows_to_the_regions() -> None:
    rois = random_rois(1, 4, (6, 6), 1.0).requires_grad_()
    assert not poplar_ops.roi_align(random_map(1, 3, 6, 6), rois, 3).requires_grad
    features = random_map(1, 3, 6, 6).requires_grad_()
    pooled = poplar_ops.roi_align(features, rois, 3)
    grads = torch.autograd.grad(pooled.sum(), (features, rois), allow_unused=True)
    assert grads[1] is None
