"""`torchrun --nproc-per-node N train.py`: one run folder, one writer, one process's numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import pytest
import torch

import train
from detectors.commands.screen import versions
from detectors.weights.source import AVERAGED
from tests.rank_variables import rank_variables
from tests.small_runs import TINY, Run, rows, saved, write_recipe

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

WORDS = (*TINY, "data.count=[6,5]", "evaluate.every_steps=3", "trainer.max_steps=6")
"""The recipe `generated`, as small as it goes; five pictures to evaluate on are odd for two."""

STAGES_ON_RANKS = tuple(map(int, versions("torch")["torch"].split(".")[:2])) >= (2, 14)
SEQUENTIAL = {"POPTORCH_HOST_SCHEDULE": "sequential"}


class Started:
    """Processes that train one recipe, as torchrun starts them."""

    def __init__(
        self, folder: Path, size: int, words: Sequence[object], environment: Dict[str, str]
    ) -> None:
        repository = Path(train.__file__).parent
        command = [sys.executable, str(repository / "train.py"), *map(str, words)]
        pipes: Dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.processes: List[subprocess.Popen[str]] = [
            subprocess.Popen(
                command, cwd=folder, env={**variables, **environment}, text=True, **pipes
            )
            for variables in rank_variables(size)
        ]

    def end(self) -> List[Run]:
        """Wait for all; what each said."""
        texts = [process.communicate(timeout=150) for process in self.processes]
        return [Run(one.returncode, *text) for one, text in zip(self.processes, texts)]


Start = Callable[..., Started]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe as a file."""
    return write_recipe(tmp_path_factory.mktemp("recipes") / "small.yaml", "generated", WORDS)


@pytest.fixture
def start(small: Path, tmp_path: Path) -> Iterator[Start]:
    """Start so many processes with the small recipe; none outlives the test."""
    started: List[Started] = []

    def call(size: int, *words: object, environment: Optional[Dict[str, str]] = None) -> Started:
        started.append(Started(tmp_path, size, [f"recipe={small}", *words], environment or {}))
        return started[-1]

    yield call
    for process in (process for one in started for process in one.processes):
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def alone(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train in this process; returns the run's folder."""

    def call(*words: str, root: str = "alone") -> Path:
        monkeypatch.chdir(tmp_path)
        assert train.main([f"recipe={small}", f"run.root={root}", *words]) == 0
        return tmp_path / root / "generated" / "1"

    return call


def numbers(folder: Path) -> List[Dict[str, float]]:
    """`metrics.csv` without speeds."""
    return [
        {key: float(value) for key, value in row.items() if value and "speed" not in key}
        for row in rows(folder)
    ]


def weights(path: Path) -> Dict[str, torch.Tensor]:
    """Of a checkpoint, and the averages where it has them."""
    content = saved(path)
    averages = {f"average of {name}": one for name, one in content.get(AVERAGED, {}).items()}
    return {**content["state_dict"], **averages}


def assert_same_run(found: Path, expected: Path, tolerance: float = 0.0) -> None:
    """Equal metrics, evaluations among them, and equal weights, best and last."""
    assert [row["step"] for row in rows(found)] == [row["step"] for row in rows(expected)]
    for one, other in zip(numbers(found), numbers(expected)):
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


def test_a_signal_to_one_rank_stops_both_after_a_step_that_is_saved(
    start: Start, tmp_path: Path
) -> None:
    words = ("run.root=two", "trainer.max_steps=60", "evaluate.every_steps=50")
    started = start(2, *words, environment=SEQUENTIAL)
    metrics = tmp_path / "two" / "generated" / "1" / "metrics.csv"
    for _ in range(1400):  # a busy machine is slow to begin
        if metrics.exists() and len(metrics.read_text().splitlines()) > 3:
            break
        time.sleep(0.1)
    started.processes[1].send_signal(signal.SIGTERM)
    first, second = started.end()
    assert (first.code, second.code) == (143, 143)
    assert "continue: torchrun --nproc-per-node 2 train.py resume=two/generated/1" in first.out
    assert second.out == second.err == ""
    steps = [int(row["step"]) for row in rows(metrics.parent)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) < 60
    assert f"saved last.ckpt (step {len(steps)})" in first.out


def test_other_ranks_than_stages_times_replicas_are_refused_before_anything_is_written(
    start: Start, tmp_path: Path
) -> None:
    first, second = start(2, "replication_factor=3").end()
    assert (first.code, second.code) == (2, 2)
    assert "2 ranks for 1 stages x 3 replicas = 3" in first.err
    assert "torchrun --nproc-per-node 3" in first.err
    assert second.err == ""
    assert list(tmp_path.iterdir()) == []


# Stages on ranks


FAULTY = """
import os, signal, sys
import train
from detectors.experiment.lightning_strategy import PopTorchStrategy
run, calls = PopTorchStrategy.run_training, []
def faulty(self, *tensors):
    calls.append(1)
    if len(calls) == 4 and os.environ["RANK"] == "1":
        {}
    return run(self, *tensors)
if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    PopTorchStrategy.run_training = faulty
sys.exit(train.main())
"""
"""train.py whose second rank comes to grief in its fourth step, unless it was started again."""

TWO_STAGES = ("pipeline.splits=[backbone.layer4.0]", "gradient_accumulation=4")


@pytest.fixture
def torchrun(small: Path, repository: Path, tmp_path: Path) -> Callable[..., Run]:
    """Run a program with the small recipe under torchrun."""
    if not STAGES_ON_RANKS:
        pytest.skip("stages on ranks need torch.distributed.pipelining of torch 2.14")

    def call(size: int, fault: str, *words: str, restarts: int = 0) -> Run:
        program = tmp_path / "program.py"
        program.write_text(FAULTY.format(fault), encoding="utf-8")
        launcher = f"-m torch.distributed.run --standalone --nproc-per-node {size}"
        command = [sys.executable, *launcher.split(), f"--max-restarts={restarts}", program]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
        done = subprocess.run(
            [*map(str, command), f"recipe={small}", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    return call


@pytest.mark.slow
def test_four_ranks_train_the_four_stages_of_a_recipe_as_one_process_does(
    torchrun: Callable[..., Run], alone: Callable[..., Path], tmp_path: Path
) -> None:
    stages = "pipeline.splits=[rpn,backbone.layer4.0,backbone.layer4.1]"
    words = (stages, "gradient_accumulation=7", "trainer.max_steps=3", "evaluate.every_steps=2")
    ended = torchrun(4, "pass", *words, "run.root=four")
    assert ended.code == 0, ended.err
    assert ended.out.count("4 ranks: 4 stages x 1 replica, 1f1b\n") == 1
    assert_same_run(tmp_path / "four" / "generated" / "1", alone(*words), 1e-5)


@pytest.mark.slow
def test_ranks_average_what_one_process_does(
    torchrun: Callable[..., Run], alone: Callable[..., Path], tmp_path: Path
) -> None:
    averages = ("optim.ema=0.9", "optim.ema_every=2", "trainer.max_steps=5")
    words = (*TWO_STAGES, *averages, "evaluate.every_steps=2")
    ended = torchrun(2, "pass", *words, "run.root=two")
    assert ended.code == 0, ended.err
    folder = tmp_path / "two" / "generated" / "1"
    assert any(name.startswith("average of ") for name in weights(folder / "last.ckpt"))
    assert_same_run(folder, alone(*words), 1e-5)


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_the_restarted_one_goes_on(
    torchrun: Callable[..., Run], alone: Callable[..., Path], tmp_path: Path
) -> None:
    fault = "os.kill(os.getpid(), signal.SIGKILL)"
    words = (*TWO_STAGES, "evaluate.every_steps=50")
    ended = torchrun(2, fault, *words, "run.root=two", "resume=auto", restarts=1)
    assert ended.code == 0, ended.err
    assert ended.err.count("was killed") == 1
    assert "going on at step 2" in ended.out
    assert [path.name for path in sorted((tmp_path / "two" / "generated").iterdir())] == [
        "1",
        "last",
    ]
    assert_same_run(tmp_path / "two" / "generated" / "1", alone(*words), 1e-5)


@pytest.mark.slow
def test_an_error_of_one_rank_ends_the_others_in_their_step(
    torchrun: Callable[..., Run], tmp_path: Path
) -> None:
    fault = "raise RuntimeError('7.jpg cannot be read any more')"
    ended = torchrun(2, fault, *TWO_STAGES, "run.root=two")
    assert ended.code == 1
    assert ended.err.count("rank 1: error: 7.jpg cannot be read any more\n") == 1
    assert ended.err.count("poptorch_host: rank 1 (") == 1
    assert (tmp_path / "two" / "generated" / "1" / "last.ckpt").exists()
