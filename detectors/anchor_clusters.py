"""Sizes that stand for many boxes: k-means with the distance 1 - IoU (YOLO9000, arXiv:1612.08242,
sec. 2).

G boxes, K clusters. A size is (width, height); two sizes are compared as boxes of one centre.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cluster_sizes", "size_ious"]

STEPS = 100  # assignments settle sooner; a mean is not what minimises 1 - IoU, so they may not
STARTS = 5  # the best of them counts: one may end in a poor corner


def size_ious(a: Tensor, b: Tensor) -> Tensor:
    """IoU of concentric boxes: (G, 2) and (K, 2) -> (G, K)."""
    common = torch.minimum(a[:, None], b[None]).prod(dim=2)
    return common / (a.prod(dim=1)[:, None] + b.prod(dim=1)[None] - common)


def cluster_sizes(sizes: Tensor, count: int, seed: int = 0) -> Tensor:
    """The means of the clusters that boxes fall into by size.

    Args:
        sizes: (G, 2), positive, G at least 1.
        count: clusters wanted.
        seed: of the sizes to start from; equal seeds give equal results.

    Returns:
        (K, 2) float64, smallest area first; K is `count`, or the number of different sizes where
        that is less.

    Raises:
        ValueError: no box, or no cluster wanted.
    """
    if len(sizes) < 1 or count < 1:
        raise ValueError(f"clusters need a size and a count from 1 on, got {len(sizes)}, {count}")
    sizes = sizes.double()
    different = torch.unique(sizes, dim=0)
    if len(different) <= count:
        return by_area(different)
    generator = torch.Generator().manual_seed(seed)
    best, best_score = different[:count], -1.0
    for _ in range(STARTS):
        means = settle(sizes, spread(different, count, generator))
        score = float(size_ious(sizes, means).amax(dim=1).mean())
        if score > best_score:
            best, best_score = means, score
    return by_area(best)


def by_area(sizes: Tensor) -> Tensor:
    """The smallest first."""
    return sizes[sizes.prod(dim=1).argsort(stable=True)]


def spread(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sizes to start from: each drawn by its distance from those before (k-means++)."""
    chosen = [int(torch.randint(len(sizes), (1,), generator=generator))]
    while len(chosen) < count:
        distance = (1 - size_ious(sizes, sizes[chosen]).amax(dim=1)).clamp(min=0)
        distance[chosen] = 0.0
        chosen.append(int(distance.multinomial(1, generator=generator)))
    return sizes[chosen]


def settle(sizes: Tensor, means: Tensor) -> Tensor:
    """Assign to the nearest mean and take means again, until nothing changes."""
    before = torch.full((len(sizes),), -1)
    for _ in range(STEPS):
        nearest = size_ious(sizes, means).argmax(dim=1)
        if torch.equal(nearest, before):
            break
        before = nearest
        members = nearest.bincount(minlength=len(means))  # (K,)
        sums = torch.zeros_like(means).index_add_(0, nearest, sizes)
        filled = (members > 0)[:, None]  # a cluster that lost all its boxes stays where it was
        means = torch.where(filled, sums / members.clamp(min=1)[:, None], means)
    return means
