"""ROI-Align: values by hand, torchvision, a slow reference; gradients; every way to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import poplar_ops
from poplar_ops import library, plain, reference
from poplar_ops.roi_align import run_compiled, run_compiled_backward, run_on_host
from poplar_ops.runtime import IS_HOST, poptorch

Size = Tuple[int, int]
RoiAlign = Callable[[Tensor, Tensor, Size, float, int, bool], Tensor]
FLOATS = [torch.float32, torch.float16, torch.bfloat16]


def random_rois(batch: int, regions: int, size: Size, scale: float, seed: int = 0) -> Tensor:
    """Regions of many sizes, some partly off a map of `size` cells; pixels."""
    source = torch.Generator().manual_seed(seed)
    height, width = size
    centre = torch.rand(batch, regions, 2, generator=source) * torch.tensor([width, height])
    extent = torch.exp(torch.rand(batch, regions, 2, generator=source) * 3.2) * 0.6
    return torch.cat([centre - extent / 2, centre + extent / 2], -1) / scale


def random_map(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of a function at x."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x, grad)[0]


def with_pair(function: Callable[..., Tensor]) -> RoiAlign:
    """Give an implementation the public operator's signature."""

    def call(
        features: Tensor, rois: Tensor, size: Size, scale: float, ratio: int, aligned: bool
    ) -> Tensor:
        return function(features, rois.contiguous(), *size, scale, ratio, aligned)

    return call


def in_executor(
    features: Tensor, rois: Tensor, size: Size, scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Run the operator as a model on the host runtime."""

    class Model(torch.nn.Module):
        def forward(self, features: Tensor, rois: Tensor) -> Tensor:
            return poplar_ops.roi_align(features, rois, size, scale, ratio, aligned)

    result: Tensor = poptorch.inferenceModel(Model(), poptorch.Options())(features, rois)
    return result


@pytest.fixture(params=["poplar_ops", "executor", "ctypes", "plain", "reference"])
def any_roi_align(request: pytest.FixtureRequest) -> RoiAlign:
    """The operator, and what may stand behind it."""
    if request.param == "ctypes":
        request.getfixturevalue("need_library")
        return with_pair(run_compiled)
    if request.param == "plain":
        return with_pair(plain.roi_align)
    if request.param == "executor":
        return in_executor
    return poplar_ops.roi_align if request.param == "poplar_ops" else with_pair(reference.roi_align)


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_a_plane_is_pooled_to_its_value_at_the_bins_centres(
    any_roi_align: RoiAlign, ratio: int
) -> None:
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(20.0), indexing="ij")
    features = (3 * x + 5 * y + 1).view(1, 1, 12, 20)
    rois = torch.tensor([[[32.0, 16.0, 96.0, 64.0]]])  # cells 8..24 by 4..16 at 1/4
    rois = rois / 2  # cells 4..12 by 2..8
    centre_x = 4 - 0.5 + (torch.arange(4.0) + 0.5) * 2  # four bins of two cells
    centre_y = 2 - 0.5 + (torch.arange(3.0) + 0.5) * 2
    expected = 3 * centre_x + 5 * centre_y.unsqueeze(1) + 1
    found = any_roi_align(features, rois, (3, 4), 0.25, ratio, True)
    torch.testing.assert_close(found, expected.view(1, 1, 1, 3, 4))
    unaligned = any_roi_align(features, rois, (3, 4), 0.25, ratio, False)
    torch.testing.assert_close(unaligned, expected.view(1, 1, 1, 3, 4) + 0.5 * 3 + 0.5 * 5)


def test_samples_beyond_one_cell_off_the_map_count_as_zero(any_roi_align: RoiAlign) -> None:
    features = torch.tensor([2.0, 4.0]).view(1, 1, 1, 2)  # one row, two cells
    # One sample a bin at x = -1.5, -1, -0.5, ..., 2, 2.5; at y = 0.
    rois = torch.tensor([[[-1.75, -0.5, 2.75, 0.5]]])
    found = any_roi_align(features, rois, (1, 9), 1.0, 1, False)
    assert found.flatten().tolist() == [0, 2, 2, 2, 3, 4, 4, 4, 0]


def test_unaligned_regions_are_at_least_one_cell(any_roi_align: RoiAlign) -> None:
    features = torch.arange(5.0).view(1, 1, 1, 5)
    rois = torch.tensor([[[1.0, 0.0, 1.0, 0.0], [3.0, 0.0, 2.0, 0.0]]])  # empty, reversed
    found = any_roi_align(features, rois, (1, 2), 1.0, 0, False)
    torch.testing.assert_close(found.flatten(), torch.tensor([1.25, 1.75, 3.25, 3.75]))


def test_every_image_has_its_own_regions(any_roi_align: RoiAlign) -> None:
    features = torch.stack([torch.full((3, 4, 4), value) for value in (1.0, 2.0)])
    rois = torch.tensor([[[0.0, 0, 2, 2], [1.0, 1, 3, 3]]]).expand(2, 2, 4)
    found = any_roi_align(features, rois, (2, 2), 1.0, 2, True)
    assert found.shape == (2, 2, 3, 2, 2)
    assert found.amin((1, 2, 3, 4)).tolist() == found.amax((1, 2, 3, 4)).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_odd_regions(any_roi_align: RoiAlign, ratio: int, aligned: bool) -> None:
    nan, inf = float("nan"), float("inf")
    rows = [
        [4.0, 4, 1, 1], [1, 4, 4, 1], [4, 1, 1, 4],  # reversed both ways, in y, in x
        [nan, 1, 3, 3], [1, 1, inf, 3], [-inf, 1, 3, 3], [1, nan, 3, nan],
        [60, 60, 70, 70], [-70, -70, -60, -60], [2, 2, 2, 2],
    ]  # fmt: skip
    features, rois = random_map(1, 2, 6, 6) + 5, torch.tensor([rows])
    found = any_roi_align(features, rois, (2, 2), 1.0, ratio, aligned)
    assert found.isfinite().all()
    assert found[0, 3:9].abs().max() == 0  # not finite, or off the map
    if aligned and ratio == 0:
        # Story: torchvision raises "vector larger than max_size" for these.
        assert found[0, :3].abs().max() == 0
        assert found[0, 9].abs().max() == 0
    else:
        assert found[0, :3].abs().min() > 0
    expected = reference.roi_align(features, rois, 2, 2, 1.0, ratio, aligned)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("ratio", [0, 2])
def test_a_region_far_larger_than_the_map_ends_soon(ratio: int) -> None:
    # Story: torchvision runs out of memory for its adaptive samples.
    rois = torch.tensor([[[-1e30, -1e30, 1e30, 1e30], [-4000.0, -4000, 4004, 4004]]])
    found = poplar_ops.roi_align(torch.ones(1, 1, 4, 4), rois, 1, 1.0, ratio, True).flatten()
    assert found.isfinite().all()
    if ratio == 0:  # of 8004 samples a side, those at -1, 0, ..., 4
        assert float(found[1]) == pytest.approx((6 / 8004) ** 2)


def test_reversed_regions_pool_backwards_with_a_fixed_ratio(any_roi_align: RoiAlign) -> None:
    features = random_map(1, 2, 9, 9)
    rois = torch.tensor([[[1.0, 2, 7, 8], [7.0, 2, 1, 8]]])
    found = any_roi_align(features, rois, (3, 3), 1.0, 2, True)[0]
    torch.testing.assert_close(found[1], found[0].flip(2))


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


CASES = [
    ((2, 5, 11, 17), (7, 7), 0, True),
    ((2, 5, 11, 17), (7, 7), 2, False),
    ((1, 16, 20, 9), (3, 5), 1, True),
    ((1, 33, 6, 6), (2, 14), 3, True),
    ((2, 17, 24, 31), (2, 2), 0, False),
    ((1, 3, 1, 8), (4, 3), 0, True),
    ((1, 2, 1, 1), (2, 2), 2, True),
]


@pytest.mark.parametrize(("shape", "size", "ratio", "aligned"), CASES)
def test_every_way_equals_the_reference(
    any_roi_align: RoiAlign, shape: Tuple[int, ...], size: Size, ratio: int, aligned: bool
) -> None:
    features, rois = random_map(*shape), random_rois(shape[0], 5, shape[2:], 1 / 8)  # type: ignore[arg-type]
    found = any_roi_align(features, rois, size, 1 / 8, ratio, aligned)
    expected = reference.roi_align(features, rois, *size, 1 / 8, ratio, aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_floats_are_summed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    features, rois = random_map(2, 19, 9, 12).to(dtype), random_rois(2, 6, (9, 12), 1 / 4)
    settings = (5, 1 / 4, 2, True)
    found = poplar_ops.roi_align(features, rois, *settings)
    assert found.dtype == dtype
    assert torch.equal(found, poplar_ops.roi_align(features.float(), rois, *settings).to(dtype))
    grad = random_map(2, 6, 19, 5, 5).to(dtype)
    back = gradient(lambda x: poplar_ops.roi_align(x, rois, *settings), features, grad)
    assert back.dtype == dtype
    wide = plain.roi_align_backward(grad.float(), rois, 9, 12, 1 / 4, 2, True)
    torch.testing.assert_close(back, wide.to(dtype))
    half = plain.roi_align(features, rois, 5, 5, 1 / 4, 2, True)
    torch.testing.assert_close(half, found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
def test_every_small_float_passes_through_unchanged(
    simd_level: str, dtype: torch.dtype, last: bool
) -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    features = bits.view(dtype).view(1, 16, 64, 64)
    if last:
        features = features.contiguous(memory_format=torch.channels_last)
    rois = torch.tensor([[[0.0, 0.0, 64.0, 64.0]]])
    found = poplar_ops.roi_align(features, rois, 64, 1.0, 1, True)[0, 0]  # a sample a cell
    is_nan = features[0].isnan()
    assert torch.equal(found.isnan(), is_nan)
    same = found.contiguous().view(torch.int16) == features[0].contiguous().view(torch.int16)
    assert (same | is_nan).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_results_are_rounded_as_torch_rounds(simd_level: str, dtype: torch.dtype) -> None:
    # Sums of random small floats over many magnitudes, with overflow and subnormals.
    source = torch.Generator().manual_seed(5)
    bits = torch.randint(-(2**15), 2**15, (1, 16, 64, 64), generator=source).to(torch.int16)
    features = bits.view(dtype)
    features = features.where(features.isfinite(), torch.zeros_like(features))
    rois = torch.tensor([[[0.25, 0.125, 64.0, 64.0], [0.0, 0.0, 40.0, 0.5]]])
    found = poplar_ops.roi_align(features, rois, 32, 1.0, 2, True)
    wide = poplar_ops.roi_align(features.float(), rois, 32, 1.0, 2, True)
    assert torch.equal(found, wide.to(dtype))


LAYOUTS: Dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "a window": lambda x: torch.nn.functional.pad(x, (2, 3, 1, 1))[:, :, 1:-1, 2:-3],
    "every other channel": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_of_any_strides(simd_level: str, layout: str, dtype: torch.dtype) -> None:
    features, rois = random_map(2, 21, 7, 70).to(dtype), random_rois(2, 4, (7, 70), 1.0)
    expected = poplar_ops.roi_align(features, rois, 3, 1.0, 2, True)
    other = LAYOUTS[layout](features)
    assert not other.is_contiguous()
    assert torch.equal(poplar_ops.roi_align(other, rois, 3, 1.0, 2, True), expected)


def test_expanded_features_and_regions_that_are_not_contiguous() -> None:
    features, rois = random_map(1, 4, 7, 7), random_rois(1, 6, (7, 7), 1.0)
    expected = poplar_ops.roi_align(features, rois, 3, 1.0, 2, True).expand(3, 6, 4, 3, 3)
    many = features.expand(3, 4, 7, 7)
    found = poplar_ops.roi_align(many, rois.expand(3, 6, 4), 3, 1.0, 2, True)
    assert torch.equal(found, expected)
    columns = rois.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(poplar_ops.roi_align(features, columns, 3, 1.0, 2, True), expected[:1])


@pytest.mark.parametrize("ratio", [0, 2])
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(
    ratio: int, simd_level: str
) -> None:
    features, rois = random_map(2, 35, 20, 21), random_rois(2, 30, (20, 21), 1.0)
    grad = random_map(2, 30, 35, 7, 7)
    settings = (1.0, ratio, True)
    best, threads = library.simd(), torch.get_num_threads()
    results = []
    try:
        for level, count in ((simd_level, 1), (simd_level, 2), ("baseline", 1)):
            library.set_simd(level)
            torch.set_num_threads(count)
            forward = run_compiled(features, rois, 7, 7, *settings)
            results.append((forward, run_compiled_backward(grad, rois, 20, 21, *settings)))
    finally:
        library.set_simd(best)
        torch.set_num_threads(threads)
    for forward, backward in results[1:]:
        assert torch.equal(forward, results[0][0])
        assert torch.equal(backward, results[0][1])


@pytest.mark.parametrize("choice", ["stable-c", "ctypes", "torch"])
def test_each_backend_pools_and_differentiates(
    choice: str, repository: Path, request: pytest.FixtureRequest
) -> None:
    if choice != "torch":
        request.getfixturevalue("need_library")
    if choice == "stable-c" and not library.find_stable_c(library.LIBRARY):  # type: ignore[arg-type]
        pytest.skip("stable-c needs torch 2.10")
    code = (
        "import torch, poplar_ops; x = torch.arange(16.).view(1, 1, 4, 4).requires_grad_();"
        "y = poplar_ops.roi_align(x, torch.tensor([[[0., 0, 4, 4]]]), 2, aligned=True);"
        "y.sum().backward();"
        "print(poplar_ops.backend(), y.flatten().tolist(), x.grad.sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DETECTORS_OPS": choice, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == f"{choice} [2.5, 4.5, 10.5, 12.5] 4.0", done.stderr


MAP, ROIS = random_map(2, 3, 8, 9), random_rois(2, 4, (8, 9), 1.0)
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


@pytest.mark.parametrize(
    ("features", "rois", "settings", "message"),
    [
        ((3, 8, 8), (1, 4, 4), {}, r"features must be \(B, C, H, W\) .*, got \(3, 8, 8\)"),
        ((1, 3, 0, 8), (1, 4, 4), {}, r"features must be .* not empty, got \(1, 3, 0, 8\)"),
        ((1, 3, 8, 8), (4, 5), {}, r"rois must be \(B, R, 4\) .*got \(4, 5\); torchvision's"),
        ((1, 3, 8, 8), (2, 4, 4), {}, r"with B = 1 as in features, got \(2, 4, 4\)"),
        ((1, 3, 8, 8), (1, 4, 4), {"output_size": 0}, r"output_size must be .* got \(0, 0\)"),
        ((1, 3, 8, 8), (1, 4, 4), {"spatial_scale": 0}, "must be a positive number, got 0"),
        ((1, 3, 8, 8), (1, 4, 4), {"sampling_ratio": -2}, "0 for adaptive, got -2"),
    ],
)
def test_says_what_does_not_fit(
    features: Tuple[int, ...], rois: Tuple[int, ...], settings: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        poplar_ops.roi_align(
            torch.zeros(features), torch.zeros(rois), **{"output_size": 2, **settings}
        )


def test_refuses_other_dtypes() -> None:
    with pytest.raises(TypeError, match=r"must be float32, .*got torch.float64 and torch.float32"):
        poplar_ops.roi_align(MAP.double(), ROIS, 2)
    with pytest.raises(TypeError, match=r"got torch.float32 and torch.int64"):
        poplar_ops.roi_align(MAP, ROIS.long(), 2)


@pytest.mark.usefixtures("need_library")
@pytest.mark.parametrize("through", ["ctypes", "dispatcher"])
def test_kernel_checks_what_it_gets_itself(through: str) -> None:
    names = torch.ops.poplar_ops
    forward = run_compiled if through == "ctypes" else names.roi_align
    backward = run_compiled_backward if through == "ctypes" else names.roi_align_backward
    grad, settings = torch.zeros(2, 4, 3, 2, 3), (1.0, 2, True)
    with pytest.raises(RuntimeError, match=r"rois must be \(B, R, 4\) .*, got \(1, 4, 4\)"):
        forward(MAP, ROIS[:1], 2, 3, *settings)
    with pytest.raises(RuntimeError, match="rois must be contiguous"):
        forward(MAP, ROIS[:, :1].expand(2, 4, 4), 2, 3, *settings)
    with pytest.raises(RuntimeError, match="rois must be float32"):
        forward(MAP, ROIS.half(), 2, 3, *settings)
    with pytest.raises(RuntimeError, match="features must be float32, float16 or bfloat16"):
        forward(MAP.double(), ROIS, 2, 3, *settings)
    with pytest.raises(RuntimeError, match="sampling_ratio must be from 0 to 65536, got -1"):
        forward(MAP, ROIS, 2, 3, 1.0, -1, True)
    with pytest.raises(RuntimeError, match="grad must be contiguous"):
        backward(torch.zeros(()).expand(2, 4, 3, 2, 3), ROIS, 8, 9, *settings)
    with pytest.raises(RuntimeError, match="out must be float32, float16 or bfloat16"):
        backward(grad.double(), ROIS, 8, 9, *settings)
