"""Anchors for a dataset: shapes by k-means over its boxes, their scale by trying."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence, Tuple

from torch import Tensor

from detectors.anchor_clusters import cluster_sizes
from detectors.anchor_coverage import Coverage
from detectors.commands.anchors.held import hold
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.weights.family import Config

__all__ = ["Suggestion", "suggest"]

SCALES = tuple(round(2 ** (step / 8), 2) for step in range(-8, 25))
"""Half a stride to eight, by 9 %: IoU falls by less than that between two of them."""


@dataclass(frozen=True)
class Suggestion:
    """Other anchors."""

    config: Config
    """The detector with them."""
    coverage: Coverage
    """Of the boxes that they were made from."""
    words: str
    """For the command line of train.py."""


def suggest(config: Config, boxes: Tensor, seed: int) -> Optional[Suggestion]:
    """Anchors that fit better than a detector's own; as many for each cell, or fewer.

    Fewer boxes without an anchor are better; of as many, the larger mean of best IoUs.

    Args:
        config: of the detector.
        boxes: (G, 4) of the network's input, with area; G at least 1.
        seed: of k-means.

    Returns:
        The best of what was tried; None where that is what there is.
    """
    best, best_worth = None, worth(hold(config, boxes))
    for candidate in candidates(config, boxes, seed):
        found = hold(candidate, boxes)
        if worth(found) > best_worth:
            best, best_worth = Suggestion(candidate, found, words(candidate)), worth(found)
    return best


def worth(found: Coverage) -> Tuple[int, float]:
    """What is compared: boxes that have an anchor, and the mean of best IoUs."""
    return int((~found.unreached).sum()), found.mean_best


def candidates(config: Config, boxes: Tensor, seed: int) -> Iterator[Config]:
    """What is tried: EfficientDet's own shapes and those of k-means at every scale."""
    sides = (boxes[:, 2:] - boxes[:, :2]).double()
    roots = sides.prod(dim=1, keepdim=True).sqrt()  # (G, 1)
    shapes = sides / roots  # of area 1
    if isinstance(config, EfficientDetConfig):
        own = shapes_of(cluster_sizes(shapes, len(config.anchor_factors), seed))
        for aspects in (config.anchor_aspects, own):
            for scale in SCALES:
                yield replace(config, anchor_scale=scale, anchor_aspects=aspects)
        return
    anchors = config.anchors
    sizes = cluster_sizes(roots.expand(-1, 2), len(anchors.sizes), seed)[:, 0]
    ratios = [
        height / width
        for width, height in shapes_of(cluster_sizes(shapes, len(anchors.ratios), seed))
    ]
    whole = tuple(sorted({float(max(1, round(size))) for size in sizes.tolist()}))
    clustered = tuple(sorted({round(ratio, 2) for ratio in ratios}))
    for some in (anchors.ratios, clustered):
        yield replace(config, anchors=replace(anchors, sizes=whole, ratios=some))


def shapes_of(clusters: Tensor) -> Tuple[Tuple[float, float], ...]:
    """Factors of area 1 for `anchor_aspects`, with two digits, the squarest first."""
    ratios: List[float] = (clusters[:, 0] / clusters[:, 1]).tolist()
    ratios.sort(key=lambda ratio: (max(ratio, 1 / ratio), ratio))
    pairs = [(round(ratio**0.5, 2), round(ratio**-0.5, 2)) for ratio in ratios]
    return tuple(dict.fromkeys(pairs))


def words(config: Config) -> str:
    """The anchors of a detector in a recipe's words."""
    if isinstance(config, FasterRCNNConfig):
        sizes, ratios = config.anchors.sizes, config.anchors.ratios
        return f"model.anchors.sizes={listed(sizes)} model.anchors.ratios={listed(ratios)}"
    scale = config.anchor_scale
    said = f"{scale:g}" if isinstance(scale, (int, float)) else listed(scale)
    aspects = ",".join(listed(pair) for pair in config.anchor_factors)
    return (
        f"model.pyramid.scale={said} model.pyramid.octaves={config.anchor_octaves}"
        f" model.pyramid.aspects=[{aspects}]"
    )


def listed(numbers: Sequence[float]) -> str:
    """`[1,0.5]`"""
    return f"[{','.join(f'{number:.4g}' for number in numbers)}]"
