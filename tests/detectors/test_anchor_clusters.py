"""k-means over sizes: by hand, and what holds for any data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detectors.anchor_clusters import cluster_sizes, size_ious
from detectors.boxes import box_iou


def many_sizes() -> Tensor:
    """(500, 2) from 4 to 300 pixels."""
    return 4 * 75 ** torch.rand(500, 2, generator=torch.Generator().manual_seed(1))


def score(sizes: Tensor, count: int, seed: int = 0) -> float:
    means = cluster_sizes(sizes, count, seed)
    return float(size_ious(sizes.double(), means).amax(dim=1).mean())


def test_ious_are_those_of_concentric_boxes() -> None:
    sizes = many_sizes()[:40]
    boxes = torch.cat([-sizes / 2, sizes / 2], dim=1)
    torch.testing.assert_close(size_ious(sizes, sizes), box_iou(boxes, boxes))


def test_one_cluster_is_the_mean() -> None:
    sizes = torch.tensor([[10.0, 20.0], [20.0, 30.0], [30.0, 10.0]])
    torch.testing.assert_close(cluster_sizes(sizes, 1), torch.tensor([[20.0, 20.0]]).double())


def test_groups_that_lie_apart_are_found() -> None:
    small = torch.tensor([[9.0, 10.0], [10.0, 10.0], [11.0, 10.0]])
    wide = torch.tensor([[100.0, 20.0], [110.0, 20.0]])
    tall = torch.tensor([[30.0, 200.0], [30.0, 220.0], [30.0, 210.0]])
    means = cluster_sizes(torch.cat([tall, small, wide]), 3)
    expected = torch.tensor([[10.0, 10.0], [105.0, 20.0], [30.0, 210.0]])
    torch.testing.assert_close(means, expected.double())  # the smallest area first


def test_more_clusters_fit_no_worse() -> None:
    sizes = many_sizes()
    scores = [score(sizes, count) for count in (1, 2, 4, 8, 16)]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.2


def test_equal_seeds_give_equal_clusters_and_the_default_generator_is_left_alone() -> None:
    sizes = many_sizes()
    before = torch.get_rng_state()
    first = cluster_sizes(sizes, 5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(cluster_sizes(sizes, 5, seed=3), first)


def test_fewer_different_sizes_than_clusters_stay_as_they_are() -> None:
    sizes = torch.tensor([[4.0, 4.0], [2.0, 3.0], [4.0, 4.0]])
    assert cluster_sizes(sizes, 3).tolist() == [[2.0, 3.0], [4.0, 4.0]]


@pytest.mark.parametrize(("sizes", "count"), [(torch.zeros(0, 2), 3), (torch.ones(2, 2), 0)])
def test_nothing_to_cluster_is_refused(sizes: Tensor, count: int) -> None:
    with pytest.raises(ValueError, match="a size and a count from 1 on"):
        cluster_sizes(sizes, count)
