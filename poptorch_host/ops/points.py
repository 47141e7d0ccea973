"""Operators on point clouds: farthest point sampling and nearest neighbours, as torch_cluster's.

N points of D coordinates. A batch is either `ptr`, where each cloud begins and the last ends, or
one sorted number per point.
"""

from __future__ import annotations

import math
from typing import List, Optional, Union

import torch
from torch import Tensor

from .. import _state
from ..errors import createPoptorchError
from . import leaf

Batch = Union[List[int], Tensor]


def fps(src: Tensor, ptr: List[int], ratio: float = 0.5, random_start: bool = False) -> Tensor:
    """Farthest point sampling: the point of each cloud farthest from those taken, time and again.

    PointNet++ (arXiv:1706.02413), section 3.2. Of several points equally far the first is taken.

    Args:
        src: (N, D) or (N,).
        ptr: cloud i is the points ptr[i] .. ptr[i + 1].
        ratio: part of each cloud that is taken, rounded up.
        random_start: start at any point of each cloud instead of its first.

    Returns:
        (sum of taken points,) int64, indices into `src`.

    Raises:
        poptorch.Error: arguments of other types, or a `ptr` that is no list of clouds in `src`.
    """
    _check_fps(src, ptr, ratio, random_start)
    taken = [math.ceil(ratio * (end - begin)) for begin, end in zip(ptr, ptr[1:])]
    if random_start and _state.current_capture() is not None:
        src.new_empty(1, dtype=torch.float32).uniform_()  # tells it that random numbers are drawn

    def compute(inputs: List[Tensor]) -> List[Tensor]:
        points = inputs[0].reshape(len(inputs[0]), -1)
        clouds = [
            _farthest(points[begin:end], count, random_start) + begin
            for begin, end, count in zip(ptr, ptr[1:], taken)
        ]
        return [torch.cat(clouds)]

    (indices,) = leaf.call("fps", [src], [leaf.Result((sum(taken),), torch.int64)], compute)
    return indices


def nearest(
    x: Tensor, y: Tensor, batch_x: Optional[Batch] = None, batch_y: Optional[Batch] = None
) -> Tensor:
    """For each point of `x` the index of the nearest point of `y` in the same cloud.

    Args:
        x: (N, D) or (N,).
        y: (M, D) or (M,).
        batch_x: (N,) sorted numbers of the clouds; None puts all into one.
        batch_y: (M,) likewise.

    Returns:
        (N,) int64.

    Raises:
        poptorch.Error: arguments of other types or sizes; for lists also if they are not sorted or
            do not name the same clouds (values of tensors are not known to a compiler).
    """
    _check_nearest(x, y, batch_x, batch_y)
    batches = [one for one in (batch_x, batch_y) if isinstance(one, Tensor)]

    def compute(inputs: List[Tensor]) -> List[Tensor]:
        x, y, *given = inputs
        distances = torch.cdist(x.reshape(len(x), -1), y.reshape(len(y), -1))  # (N, M)
        if batch_x is not None or batch_y is not None:
            of_x = given.pop(0) if isinstance(batch_x, Tensor) else _clouds(batch_x, x)
            of_y = given.pop(0) if isinstance(batch_y, Tensor) else _clouds(batch_y, y)
            distances = distances.masked_fill(of_x.unsqueeze(1) != of_y.unsqueeze(0), math.inf)
        return [distances.argmin(dim=1)]

    result = leaf.Result((len(x),), torch.int64)
    (indices,) = leaf.call("nearest", [x, y, *batches], [result], compute)
    return indices


def _farthest(points: Tensor, count: int, random_start: bool) -> Tensor:
    """Indices of `count` points of one cloud, each the farthest from those before."""
    if random_start:
        index = torch.randint(len(points), (), device=points.device)
    else:
        index = torch.zeros((), dtype=torch.int64, device=points.device)
    taken = [index]
    distance = torch.full((len(points),), math.inf, device=points.device)  # to the nearest taken
    for _ in range(count - 1):
        latest = points.index_select(0, index.reshape(1))
        distance = torch.minimum(distance, (points - latest).square().sum(dim=1).float())
        index = distance.argmax()
        taken.append(index)
    return torch.stack(taken)


def _check_fps(src: object, ptr: object, ratio: object, random_start: object) -> None:
    if not isinstance(src, Tensor):
        raise createPoptorchError(f"fps: src must be a torch.Tensor, got {type(src).__name__}")
    if not isinstance(ptr, list) or not all(isinstance(one, int) for one in ptr):
        raise createPoptorchError(f"fps: `ptr` must be a list of integers, got {ptr!r}")
    if len(ptr) < 2:
        raise createPoptorchError(f"fps: `ptr` must contain at least 2 elements, got {ptr}")
    if not isinstance(ratio, float):
        raise createPoptorchError(f"fps: `ratio` must be of float type, got {ratio!r}")
    if not isinstance(random_start, bool):
        raise createPoptorchError(f"fps: `random_start` must be of bool type, got {random_start!r}")
    if ptr[0] < 0 or ptr[-1] > len(src) or any(b <= a for a, b in zip(ptr, ptr[1:])):
        raise createPoptorchError(
            f"fps: `ptr` must rise from 0 to at most the {len(src)} points of src, got {ptr}"
        )
    if not 0 < ratio <= 1:
        raise createPoptorchError(f"fps: `ratio` must be above 0 and at most 1, got {ratio}")


def _clouds(batch: Optional[List[int]], points: Tensor) -> Tensor:
    """(N,) the cloud of each point."""
    if not batch:
        return torch.zeros(len(points), dtype=torch.int64, device=points.device)
    return torch.tensor(batch, dtype=torch.int64, device=points.device)


def _check_nearest(
    x: object, y: object, batch_x: Optional[Batch], batch_y: Optional[Batch]
) -> None:
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise createPoptorchError(
                f"nearest: `{name}` must be a torch.Tensor, got {type(value).__name__}"
            )
    assert isinstance(x, Tensor) and isinstance(y, Tensor)
    shapes = f"got {list(x.shape)} and {list(y.shape)}"
    if not 1 <= x.dim() <= 2 or not 1 <= y.dim() <= 2:
        raise createPoptorchError(
            f"nearest: Inputs `x` and `y` should be max 2D tensors and hold points, {shapes}"
        )
    if x.reshape(len(x), -1).shape[1] != y.reshape(len(y), -1).shape[1]:
        raise createPoptorchError(
            f"nearest: Inputs shapes inconsistent: both need the same coordinates, {shapes}"
        )
    named = [_check_batch("batch_x", batch_x, len(x)), _check_batch("batch_y", batch_y, len(y))]
    if None not in named and named[0] != named[1]:
        raise createPoptorchError(
            "nearest: Some batch indices occur in 'batch_x' that do not occur in 'batch_y', or the"
            f" other way round: {named[0]} and {named[1]}"
        )


def _check_batch(name: str, batch: Optional[Batch], points: int) -> Optional[List[int]]:
    """The clouds that a list names; None for a tensor, whose values are not known."""
    if not isinstance(batch, (Tensor, list, type(None))):
        raise createPoptorchError(
            f"nearest: `{name}` must be a torch.Tensor or a list, got {type(batch).__name__}"
        )
    if batch is None or len(batch) == 0:
        return [0]
    if len(batch) != points or (isinstance(batch, Tensor) and batch.dim() != 1):
        raise createPoptorchError(
            f"nearest: `{name}` needs one entry for each of the {points} points, got {len(batch)}"
        )
    if isinstance(batch, Tensor):
        return None
    if any(after < before for before, after in zip(batch, batch[1:])):
        raise createPoptorchError(f"nearest: '{name}' is not sorted: {batch}")
    return sorted(set(batch))
