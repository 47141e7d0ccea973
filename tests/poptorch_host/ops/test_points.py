"""Operators on point clouds agree with slow loops and pass a capture (1.6)."""

from __future__ import annotations

import math
from typing import Any, Callable, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

untyped: Any = poptorch  # for mistakes that mypy would find
LINE = torch.tensor([0.0, 1.0, 2.0, 10.0, 0.0, 5.0])


def slow_fps(points: Tensor, ptr: List[int], ratio: float) -> List[int]:
    taken = []
    for begin, end in zip(ptr, ptr[1:]):
        mine = [begin]
        while len(mine) < math.ceil(ratio * (end - begin)):
            gaps = [
                min(float((points[i] - points[j]).norm()) for j in mine) for i in range(begin, end)
            ]
            mine.append(begin + gaps.index(max(gaps)))
        taken += mine
    return taken


def slow_nearest(x: Tensor, y: Tensor, batch_x: List[int], batch_y: List[int]) -> List[int]:
    found = []
    for point, cloud in zip(x, batch_x):
        gaps = [
            float((point - other).norm()) if cloud == its else math.inf
            for other, its in zip(y, batch_y)
        ]
        found.append(gaps.index(min(gaps)))
    return found


def test_fps_takes_the_first_point_and_then_the_farthest() -> None:
    # 0 first, then 10, then 2 (2 from the nearest of both; 1 is nearer).
    assert poptorch.fps(LINE, [0, 4], 0.75).tolist() == [0, 3, 2]


def test_fps_samples_each_cloud_on_its_own_and_rounds_up() -> None:
    assert poptorch.fps(LINE, [0, 3, 6], 0.5).tolist() == [0, 2, 3, 4]
    assert poptorch.fps(LINE, [0, 1, 6], 0.1).tolist() == [0, 1]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 1.0])
def test_fps_agrees_with_a_slow_loop(ratio: float) -> None:
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    ptr = [0, 7, 8, 30]
    assert poptorch.fps(points, ptr, ratio).tolist() == slow_fps(points, ptr, ratio)


def test_fps_may_start_anywhere_in_each_cloud() -> None:
    torch.manual_seed(3)
    starts = {tuple(poptorch.fps(LINE, [0, 3, 6], 0.1, True).tolist()) for _ in range(60)}
    assert {first for first, _ in starts} == {0, 1, 2}
    assert {second for _, second in starts} == {3, 4, 5}


def test_nearest_finds_points_of_the_same_cloud() -> None:
    x, y = torch.tensor([0.0, 4.0, 4.0]), torch.tensor([4.1, 0.0, 9.0, 3.0])
    assert poptorch.nearest(x, y).tolist() == [1, 0, 0]
    assert poptorch.nearest(x, y, [0, 0, 1], [0, 0, 1, 1]).tolist() == [1, 0, 3]
    batches = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1, 1])
    assert poptorch.nearest(x, y, *batches).tolist() == [1, 0, 3]
    assert poptorch.nearest(x, y, [0, 0, 1], batches[1]).tolist() == [1, 0, 3]
    assert poptorch.nearest(x, y, [0, 0, 0], None).tolist() == [1, 0, 0]


def test_nearest_agrees_with_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(20, 3, generator=generator), torch.randn(9, 3, generator=generator)
    batch_x, batch_y = [0] * 5 + [2] * 15, [0] * 3 + [2] * 6
    expected = slow_nearest(x, y, batch_x, batch_y)
    assert poptorch.nearest(x, y, batch_x, batch_y).tolist() == expected


class Clouds(nn.Module):
    """Both operators, with batches in tensors."""

    def __init__(self, random_start: bool = False) -> None:
        super().__init__()
        self.random_start = random_start

    def forward(self, x: Tensor, batch: Tensor) -> Any:
        centres = poptorch.fps(x, [0, 3, 6], 0.5, self.random_start)
        kept, clouds = x.index_select(0, centres), batch.index_select(0, centres)
        return centres, poptorch.nearest(x, kept, batch, clouds)


def test_inside_an_executor_results_are_the_same_in_int32() -> None:
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    expected = Clouds()(LINE.view(6, 1), batch)
    results = poptorch.inferenceModel(Clouds())(LINE.view(6, 1), batch)
    for result, value in zip(results, expected):
        assert result.dtype == torch.int32
        assert result.tolist() == value.tolist()


def test_random_starts_are_drawn_by_the_executor_s_seed() -> None:
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    options = poptorch.Options().randomSeed(5)
    one, two = (poptorch.inferenceModel(Clouds(True), options.clone()) for _ in range(2))
    first = [one(LINE.view(6, 1), batch)[0].tolist() for _ in range(8)]
    assert first == [two(LINE.view(6, 1), batch)[0].tolist() for _ in range(8)]
    assert len({tuple(starts) for starts in first}) > 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: untyped.fps([1.0], [0, 1]), r"must be a torch\.Tensor"),
        (lambda: untyped.fps(LINE, (0, 6)), "`ptr` must be a list of integers"),
        (lambda: untyped.fps(LINE, [0]), "at least 2 elements"),
        (lambda: untyped.fps(LINE, [0, 9]), "at most the 6 points"),
        (lambda: untyped.fps(LINE, [0, 3, 3]), "must rise"),
        (lambda: untyped.fps(LINE, [0, 6], 1), "`ratio` must be of float type"),
        (lambda: untyped.fps(LINE, [0, 6], 0.0), "above 0 and at most 1"),
        (lambda: untyped.fps(LINE, [0, 6], 0.5, 1), "`random_start` must be of bool type"),
        (lambda: untyped.nearest([1.0], LINE), "`x` must be"),
        (lambda: untyped.nearest(LINE, 3), "`y` must be"),
        (lambda: untyped.nearest(LINE.view(1, 2, 3), LINE), "max 2D"),
        (lambda: untyped.nearest(LINE.view(3, 2), LINE.view(2, 3)), "shapes inconsistent"),
        (lambda: untyped.nearest(LINE, LINE, (0,) * 6), "`batch_x` must be"),
        (lambda: untyped.nearest(LINE, LINE, [0, 1]), "each of the 6 points, got 2"),
        (lambda: untyped.nearest(LINE, LINE, None, [0, 0, 1, 0, 1, 1]), "'batch_y' is not sorted"),
        (lambda: untyped.nearest(LINE, LINE, [0] * 6, [1] * 6), "Some batch indices occur"),
    ],
)
def test_misuse_is_a_poptorch_error(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(poptorch.Error, match=words):
        call()
