"""What runs where: stages on ranks, or what would have to be started instead."""

from __future__ import annotations

from typing import Tuple

import pytest

from detectors.experiment.processes import Processes
from detectors.experiment.ranks import Ranks, ranks_of
from detectors.experiment.recipe import load_recipe
from poplar_ops.runtime import IS_HOST, poptorch

FOUR = "pipeline.splits=[rpn,backbone.layer4.0,backbone.layer4.1]"
pytestmark = pytest.mark.skipif(not IS_HOST, reason="on IPUs one process has all stages")


def on(size: int, *words: str, schedule: str = "auto", rank: int = 0) -> Ranks:
    """The recipe `generated` on so many ranks."""
    before = poptorch.host.configure(schedule=schedule)
    try:
        recipe = load_recipe("generated", ["gradient_accumulation=8", FOUR, *words])
        return ranks_of(recipe, Processes(rank, size))
    finally:
        poptorch.host.configure(schedule=before.schedule)


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(poptorch.host, "check_pipelining", lambda: None)


@pytest.mark.parametrize(
    ("size", "words", "schedule", "line"),
    [
        (4, (), "auto", "4 ranks: 4 stages x 1 replica, 1f1b"),
        (8, ("replication_factor=2",), "gpipe", "8 ranks: 4 stages x 2 replicas, gpipe"),
        (2, (), "sequential", "2 ranks, each with the whole model (schedule sequential)"),
    ],
)
def test_the_header_says_what_runs_where(
    size: int, words: Tuple[str, ...], schedule: str, line: str
) -> None:
    assert on(size, *words, schedule=schedule).line() == line


def test_first_stages_and_whole_models_see_pictures() -> None:
    ranks = [on(8, "replication_factor=2", rank=rank) for rank in range(8)]
    assert [rank.sees_pictures for rank in ranks] == [True] + [False] * 3 + [True] + [False] * 3
    assert on(2, schedule="sequential", rank=1).sees_pictures
    assert on(1).sees_pictures


@pytest.mark.parametrize(
    ("size", "hint"), [(8, "set replication_factor=2"), (3, "set pipeline.splits to 2 names")]
)
def test_another_number_of_ranks_is_told_what_would_do(size: int, hint: str) -> None:
    with pytest.raises(ValueError, match=f"{size} ranks for 4 stages x 1 replicas = 4") as refused:
        on(size)
    assert "torchrun --nproc-per-node 4" in str(refused.value)
    assert hint in str(refused.value)
    assert "POPTORCH_HOST_SCHEDULE=sequential" in str(refused.value)


def test_another_launcher_is_told_that_torchrun_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(ValueError, match="4 processes, but not by torchrun"):
        on(4)
