"""ROI-Align's kernels: dtypes, strides, instruction sets and backends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import library, plain
from poplar_ops.roi_align import run_compiled, run_compiled_backward
from tests.poplar_ops.roi_align_inputs import MAP, ROIS, gradient, random_map, random_rois

FLOATS = [torch.float32, torch.float16, torch.bfloat16]


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
