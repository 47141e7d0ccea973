"""Bilinear pooling of regions of a map to a fixed size (Mask R-CNN, arXiv:1703.06870, sec. 3).

B images, C channels, (H, W) cells of the map, R regions an image, (h, w) bins a region. Regions
are xyxy in input pixels; `spatial_scale` takes them to cells.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Dict, List, Tuple, Union

import torch
from torch import Tensor

from poplar_ops import ipu_library, library, plain, pool
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["roi_align"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
MAX_SAMPLES = plain.MAX_SAMPLES


class Config(ctypes.Structure):
    """Settings as the library takes them; the layout of `RoiAlignConfig` in `csrc/host`."""

    _fields_ = (
        ("spatial_scale", ctypes.c_float),
        ("sampling_ratio", ctypes.c_int32),
        ("aligned", ctypes.c_int32),
        ("stream", ctypes.c_int32),
    )


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: Union[int, Tuple[int, int]],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = False,
) -> Tensor:
    """Average bilinear samples in each of h x w bins of every region.

    As torchvision's operator of this name, with regions grouped by image and their coordinates in
    float32 whatever the features are. Sums are float32. A sample more than one cell off the map
    counts as 0. The gradient flows to the features, not to the regions; it is the same on any
    number of threads.

    Where torchvision fails: a region that is reversed is all 0 with adaptive sampling, one that is
    not finite always. An adaptive bin takes at most 65536 samples an axis.

    Args:
        features: (B, C, H, W) float32, float16 or bfloat16, of any strides.
        rois: (B, R, 4) float32, float16 or bfloat16, xyxy; R may be 0.
        output_size: (h, w), or one number for both.
        spatial_scale: cells per pixel, above 0; 1/16 for a map of stride 16.
        sampling_ratio: samples a bin and axis; 0 (or -1, as torchvision has it) is adaptive:
            ceil(region / bins).
        aligned: subtract half a cell, so that a cell's value is at its centre (Detectron2). False
            also makes every region at least one cell wide and high.

    Returns:
        (B, R, C, h, w), of the features' dtype.

    Raises:
        ValueError: a shape does not fit, or a setting is out of range.
        TypeError: a dtype is none of those above.
    """
    check_tensors(features, rois)
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    check_settings(height, width, spatial_scale, sampling_ratio)
    rois = rois.detach().float()
    settings: Dict[str, Any] = {
        "output_height": int(height),
        "output_width": int(width),
        "spatial_scale": float(spatial_scale),
        "sampling_ratio": max(int(sampling_ratio), 0),
        "aligned": bool(aligned),
    }
    if poptorch.isRunningOnIpu():
        return run_custom_op(features, rois, settings)
    pooled: Tensor = torch.ops.poplar_ops.roi_align(features, rois.contiguous(), *settings.values())
    return pooled


def check_tensors(features: Tensor, rois: Tensor) -> None:
    """Refuse shapes and dtypes that the contract does not name."""
    if features.dim() != 4 or min(features.shape[1:]) < 1:
        raise ValueError(
            f"features must be (B, C, H, W) and not empty, got {tuple(features.shape)}"
        )
    if rois.dim() != 3 or rois.shape[0] != features.shape[0] or rois.shape[2] != 4:
        raise ValueError(
            f"rois must be (B, R, 4) with B = {features.shape[0]} as in features,"
            f" got {tuple(rois.shape)}; torchvision's (R, 5) carry the image's index, ours do not"
        )
    if features.dtype not in FLOATS or rois.dtype not in FLOATS:
        raise TypeError(
            "features and rois must be float32, float16 or bfloat16,"
            f" got {features.dtype} and {rois.dtype}"
        )


def check_settings(height: int, width: int, spatial_scale: float, sampling_ratio: int) -> None:
    """Refuse settings out of range; NaN is out of every range."""
    if height < 1 or width < 1:
        raise ValueError(f"output_size must be at least (1, 1), got ({height}, {width})")
    if not (spatial_scale > 0 and math.isfinite(spatial_scale)):
        raise ValueError(f"spatial_scale must be a positive number, got {spatial_scale}")
    if not -1 <= sampling_ratio <= MAX_SAMPLES:
        raise ValueError(
            f"sampling_ratio must be from 1 to {MAX_SAMPLES}, or 0 for adaptive,"
            f" got {sampling_ratio}"
        )


def run_custom_op(features: Tensor, rois: Tensor, settings: Dict[str, Any]) -> Tensor:
    """The same as a node of the IPU's graph.

    PopTorch copies attributes by their Python type, so each has the type the operator reads. It
    gives a single output the first input's type.
    """
    if not IS_HOST:
        ipu_library.load()
    batch, regions = rois.shape[:2]
    shape = (batch, regions, features.shape[1], settings["output_height"], settings["output_width"])
    outputs = poptorch.custom_op(
        [features, rois],
        name="RoiAlign",
        domain="poplar_ops",
        domain_version=1,
        attributes={**settings, "aligned": int(settings["aligned"])},
        example_outputs=[features.new_zeros((1,) * 5).expand(shape)],  # a shape without its memory
    )
    return outputs[0]


def run_on_host(inputs: List[Tensor], attributes: Dict[str, Any]) -> List[Tensor]:
    """What `poptorch_host` runs in place of the IPU's operator; differentiable."""
    features, rois = inputs
    settings = {**attributes, "aligned": bool(attributes["aligned"])}
    pooled = torch.ops.poplar_ops.roi_align(features, rois.contiguous(), **settings)
    return [pooled.to(features.dtype)]  # the runtime computes operators on half tensors in float32


def run_compiled(
    features: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The library's kernel on CPU tensors."""
    shape = (*rois.shape[:2], *features.shape[1:2], output_height, output_width)
    out, is_used = pool.empty(shape, features.dtype)
    config = Config(spatial_scale, sampling_ratio, aligned, is_used)
    library.run("poplar_ops_roi_align", features, rois, config, out.flatten(0, 1))
    return out


def run_compiled_backward(
    grad: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """The gradient's kernel on CPU tensors."""
    out = fake_backward(grad, rois, height, width, spatial_scale, sampling_ratio, aligned)
    config = Config(spatial_scale, sampling_ratio, aligned, False)
    library.run("poplar_ops_roi_align_backward", grad.flatten(0, 1), rois, config, out)
    return out


def fake(
    features: Tensor,
    rois: Tensor,
    output_height: int,
    output_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Shape and dtype of the result."""
    batch, regions = rois.shape[:2]
    return features.new_empty((batch, regions, features.shape[1], output_height, output_width))


def fake_backward(
    grad: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Shape and dtype of the gradient."""
    return grad.new_empty((grad.shape[0], grad.shape[2], height, width))


def save(ctx: Any, inputs: Tuple[Any, ...], output: Tensor) -> None:
    """Keep the regions and settings; both operators are linear in their first tensor."""
    first, rois, *ctx.settings = inputs
    ctx.save_for_backward(rois)
    ctx.size = first.shape[-2:]


def gradient(ctx: Any, grad: Tensor) -> Tuple[Any, ...]:
    """Gradient of `roi_align` to its features."""
    (rois,) = ctx.saved_tensors
    settings = ctx.settings[2:]
    # `.sum().backward()` gives a gradient of stride 0, which a kernel must not walk.
    grad = torch.ops.poplar_ops.roi_align_backward(grad.contiguous(), rois, *ctx.size, *settings)
    return (grad, None, None, None, None, None, None)


def gradient_of_gradient(ctx: Any, grad: Tensor) -> Tuple[Any, ...]:
    """Gradient of `roi_align_backward` to the gradient it took."""
    (rois,) = ctx.saved_tensors
    settings = ctx.settings[2:]
    grad = torch.ops.poplar_ops.roi_align(grad, rois, *ctx.size, *settings)
    return (grad, None, None, None, None, None, None)


SETTINGS = "float spatial_scale, int sampling_ratio, bool aligned) -> Tensor"

library.define(
    "roi_align",
    f"(Tensor features, Tensor rois, int output_height, int output_width, {SETTINGS}",
    compiled=run_compiled,
    plain=plain.roi_align,
    fake=fake,
    in_python=True,
    autograd=(save, gradient),
)
library.define(
    "roi_align_backward",
    f"(Tensor grad, Tensor rois, SymInt height, SymInt width, {SETTINGS}",
    compiled=run_compiled_backward,
    plain=plain.roi_align_backward,
    fake=fake_backward,
    in_python=True,
    autograd=(save, gradient_of_gradient),
)
if IS_HOST:
    from poptorch_host import host

    host.register_custom_op("poplar_ops", "RoiAlign", run_on_host, version=1)
