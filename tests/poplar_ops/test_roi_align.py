"""ROI-Align: values by hand, a slow reference, every way to run it, what is refused."""

from __future__ import annotations

from typing import Any, Callable, Tuple

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import plain, reference
from poplar_ops.roi_align import run_compiled
from poplar_ops.runtime import poptorch
from tests.poplar_ops.roi_align_inputs import (
    CASES,
    MAP,
    ROIS,
    RoiAlign,
    Size,
    random_map,
    random_rois,
)


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


@pytest.mark.parametrize(("shape", "size", "ratio", "aligned"), CASES)
def test_every_way_equals_the_reference(
    any_roi_align: RoiAlign, shape: Tuple[int, ...], size: Size, ratio: int, aligned: bool
) -> None:
    features, rois = random_map(*shape), random_rois(shape[0], 5, shape[2:], 1 / 8)  # type: ignore[arg-type]
    found = any_roi_align(features, rois, size, 1 / 8, ratio, aligned)
    expected = reference.roi_align(features, rois, *size, 1 / 8, ratio, aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


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
