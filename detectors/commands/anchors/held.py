"""The boxes of a recipe's data, held against the anchors of its model."""

from __future__ import annotations

from typing import List, Optional, Tuple

from torch import Tensor

from data.annotations import Dataset
from data.fitted_boxes import fitted_boxes
from detectors.anchor_coverage import Coverage, coverage, split_levels
from detectors.anchors import level_size
from detectors.commands.train.data_summary import many
from detectors.commands.train.pictures import fit_of
from detectors.experiment.recipe import Recipe
from detectors.models.efficientdet.anchors import build_anchors as pyramid
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.criterion import MATCHING
from detectors.models.faster_rcnn.config import STRIDE
from detectors.models.faster_rcnn.rpn import build_anchors as grid
from detectors.weights.family import Config

__all__ = ["anchor_levels", "boxes_of", "coverage_line", "hold"]

POOR = 0.5  # IoU below which an anchor is no start, whatever the training matches
WORTH_A_LOOK = 0.05  # of the boxes, that have nothing better
HEADER_BOXES = 2000  # enough for a share within 2 %, at any size of the data


def anchor_levels(config: Config) -> List[Tensor]:
    """A detector's anchors, (rows, columns, A, 4) for each map, fine to coarse."""
    if isinstance(config, EfficientDetConfig):
        levels = range(config.min_level, config.max_level + 1)
        return split_levels(pyramid(config), [level_size(config.image_size, n) for n in levels])
    level = STRIDE.bit_length() - 1
    return split_levels(grid(config), [level_size(config.image_size, level)])


def hold(config: Config, boxes: Tensor) -> Coverage:
    """What training would match: (G, 4) boxes of the network's input against all anchors."""
    levels = anchor_levels(config)
    if isinstance(config, EfficientDetConfig):
        return coverage(boxes, levels, MATCHING.positive)
    inside = config.image_size if config.rpn.inside_only else None
    return coverage(boxes, levels, config.rpn.positive, inside)


def boxes_of(
    recipe: Recipe, dataset: Dataset, limit: Optional[int] = None
) -> Tuple[Tensor, Tensor]:
    """The boxes to train on as they lie in the network's input, (G, 4), and their labels; at most
    `limit`, drawn with the recipe's seed.
    """
    return fitted_boxes(
        dataset.annotations,
        fit_of(recipe),
        difficult=recipe.data.difficult,
        limit=limit,
        seed=recipe.seed,
    )


def coverage_line(recipe: Recipe, dataset: Dataset, config: Config) -> str:
    """`anchors reach 97.1 % of 2 000 boxes drawn (IoU 0.5 or more); 9.0 % are smaller than ...`"""
    boxes, _ = boxes_of(recipe, dataset, HEADER_BOXES)
    found = hold(config, boxes)
    drawn = " drawn" if len(boxes) == HEADER_BOXES else ""
    reached, smaller = 100 * (1 - found.share_unreached), 100 * found.share_smaller
    poor = float((found.best < POOR).float().mean()) if len(boxes) else 0.0
    hint = ": python -m detectors anchors suggests others" if poor > WORTH_A_LOOK else ""
    return (
        f"anchors reach {reached:.1f} % of {many(len(boxes))} boxes{drawn} (IoU"
        f" {found.threshold:g} or more); {smaller:.1f} % are smaller than the smallest,"
        f" {found.smallest:.3g} px{hint}"
    )
