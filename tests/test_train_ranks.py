"""`torchrun --nproc-per-node N train.py`: one run folder, one writer, one process's numbers."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import pytest
import torch

import train
from detectors.commands.screen import versions
from detectors.experiment.recipe import load_recipe, recipe_yaml

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

TINY = (
    "image.size=64",
    "data.count=[6,5]",
    "data.workers=0",
    "model.anchors.sizes=[16,32]",
    "model.rpn.channels=8",
    "model.rpn.num_samples=16",
    "model.rpn.pre_nms=[32,32]",
    "model.rpn.post_nms=[8,8]",
    "model.box_head.pool_size=4",
    "model.box_head.num_samples=8",
    "micro_batch_size=1",
    "gradient_accumulation=1",
    "pipeline.splits=[]",
    "optim.name=sgd",
    "optim.lr=0.02",
    "optim.schedule=constant",
    "optim.warmup_steps=2",
    "run.log_every_steps=1",
    "checkpoint.every_steps=2",
    "evaluate.every_steps=3",
    "evaluate.resamples=0",
    "trainer.max_steps=6",
    "device=cpu",
)
"""The recipe `generated`, as small as it goes; five pictures to evaluate on are odd for two."""

SEQUENTIAL = {"POPTORCH_HOST_SCHEDULE": "sequential"}


class Ended(NamedTuple):
    """A process that ended."""

    code: int
    out: str
    err: str


class Started:
    """Processes that train one recipe, as torchrun starts them."""

    def __init__(
        self, folder: Path, size: int, words: Sequence[object], environment: Dict[str, str]
    ) -> None:
        repository = Path(train.__file__).parent
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes: List[subprocess.Popen[str]] = []
        for rank in range(size):
            variables = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                **environment,
            }
            command = [sys.executable, str(repository / "train.py"), *map(str, words)]
            pipes: Dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            self.processes.append(
                subprocess.Popen(command, cwd=folder, env=variables, text=True, **pipes)
            )

    def end(self) -> List[Ended]:
        """Wait for all; what each said."""
        texts = [process.communicate(timeout=150) for process in self.processes]
        return [Ended(one.returncode, *text) for one, text in zip(self.processes, texts)]


Start = Callable[..., Started]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe as a file."""
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(recipe_yaml(load_recipe("generated", TINY)), encoding="utf-8")
    return path


@pytest.fixture
def start(recipe: Path, tmp_path: Path) -> Iterator[Start]:
    """Start so many processes with the small recipe; none outlives the test."""
    started: List[Started] = []

    def call(size: int, *words: object, environment: Optional[Dict[str, str]] = None) -> Started:
        started.append(Started(tmp_path, size, [f"recipe={recipe}", *words], environment or {}))
        return started[-1]

    yield call
    for process in (process for one in started for process in one.processes):
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def alone(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train in this process; returns the run's folder."""

    def call(*words: str, root: str = "alone") -> Path:
        monkeypatch.chdir(tmp_path)
        assert train.main([f"recipe={recipe}", f"run.root={root}", *words]) == 0
        return tmp_path / root / "generated" / "1"

    return call


def rows(folder: Path) -> List[Dict[str, float]]:
    """`metrics.csv` without speeds."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return [
            {key: float(value) for key, value in row.items() if value and "speed" not in key}
            for row in csv.DictReader(file)
        ]


def weights(path: Path) -> Dict[str, torch.Tensor]:
    """Of a checkpoint."""
    found: Dict[str, torch.Tensor] = torch.load(path, map_location="cpu")["state_dict"]
    return found


def assert_same_run(found: Path, expected: Path, tolerance: float = 0.0) -> None:
    """Equal metrics, evaluations among them, and equal weights, best and last."""
    assert [row["step"] for row in rows(found)] == [row["step"] for row in rows(expected)]
    for one, other in zip(rows(found), rows(expected)):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance, nan_ok=True)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = weights(found / name), weights(expected / name)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=tolerance, atol=tolerance, msg=key)


def test_two_ranks_make_one_run_that_is_the_run_of_one_process(
    start: Start, alone: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = start(2, "run.root=two", environment=SEQUENTIAL).end()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    folder = tmp_path / "two" / "generated" / "1"
    assert [path.name for path in sorted(folder.parent.iterdir())] == ["1", "last"]
    assert first.out.count("2 ranks, each with the whole model (schedule sequential)") == 1
    assert "run two/generated/1" in first.out
    assert second.out == second.err == ""
    assert_same_run(folder, alone())
    assert (folder / "command.txt").read_text().count("train.py") == 1
    files = {path.name for path in folder.iterdir()}
    assert files == {path.name for path in (tmp_path / "alone" / "generated" / "1").iterdir()}
    expected = (tmp_path / "alone" / "generated" / "1" / "detections.json").read_bytes()
    assert (folder / "detections.json").read_bytes() == expected


def test_a_signal_to_one_rank_stops_both_after_the_same_step_and_resume_goes_on(
    start: Start, alone: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("run.root=two", "resume=auto")
    started = start(
        2, *words, "trainer.max_steps=60", "evaluate.every_steps=50", environment=SEQUENTIAL
    )
    metrics = tmp_path / "two" / "generated" / "1" / "metrics.csv"
    for _ in range(600):
        if metrics.exists() and len(metrics.read_text().splitlines()) > 3:
            break
        time.sleep(0.1)
    started.processes[1].send_signal(signal.SIGTERM)
    first, second = started.end()
    assert (first.code, second.code) == (143, 143)
    assert "continue: python train.py resume=two/generated/1" in first.out + first.err
    assert second.out == second.err == ""
    steps = [int(row["step"]) for row in rows(metrics.parent)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) < 60


@pytest.mark.skipif(versions("torch")["torch"] < "2.1", reason="stages on ranks need torch 2.14")
def test_other_ranks_than_stages_times_replicas_are_refused_before_anything_is_written(
    start: Start, tmp_path: Path
) -> None:
    first, second = start(2, "replication_factor=3").end()
    assert (first.code, second.code) == (2, 2)
    assert "2 ranks for 1 stages x 3 replicas = 3" in first.err
    assert "torchrun --nproc-per-node 3" in first.err
    assert second.err == ""
    assert list(tmp_path.iterdir()) == []
