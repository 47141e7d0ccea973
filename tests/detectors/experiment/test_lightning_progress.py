"""A run says how far it is, and logs how fast."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from detectors.experiment import lightning_progress
from detectors.experiment.lightning_metrics import read_metrics
from detectors.experiment.lightning_progress import FetchTimer, ProgressLine, clock, loss_words


class Clock:
    """Time that a test passes."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        """Seconds."""
        return self.now

    monotonic = perf_counter


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for the module."""
    made = Clock()
    monkeypatch.setattr(lightning_progress, "time", made)
    return made


class Loop:
    """Calls of a run, as the callback sees them."""

    def __init__(self, line: Any, passing: Clock, updates: int = 1) -> None:
        self.line = line  # takes stand-ins for trainer and module
        self.passing, self.updates = passing, updates
        self.module: Any = SimpleNamespace(
            step=0, loss_names=("rpn_objectness", "rpn_box", "roi_class"), log_dict=self.log_dict
        )
        self.trainer: Any = SimpleNamespace(
            lightning_module=self.module, callback_metrics={"optim/lr": torch.tensor(0.02)}
        )
        line._fetching = FetchTimer()
        self.line.on_train_start(self.trainer, self.module)

    def log_dict(self, values: Any, batch_size: int) -> None:
        """What the callback logs."""
        self.logged = values

    def call(self, wait: float, work: float, losses: Any = (0.25, 0.125, 1.5)) -> None:
        """One call of the executor."""
        self.line._fetching.start("[_TrainingEpochLoop].train_dataloader_next")
        self.passing.now += wait
        self.line._fetching.stop("[_TrainingEpochLoop].train_dataloader_next")
        self.line.on_train_batch_start(self.trainer, self.module, None, 0)
        self.passing.now += work
        self.module.step += self.updates
        outputs = {"losses": torch.tensor([losses, losses])}
        self.line.on_train_batch_end(self.trainer, self.module, outputs, None, 0)


def test_speeds_by_hand(passing: Clock) -> None:
    loop = Loop(ProgressLine(16, 100, 1000, quiet=True), passing)
    loop.call(wait=9.0, work=60.0)  # compiles: counts until there is another
    loop.call(wait=0.5, work=1.5)
    passing.now += 1000.0  # an evaluation
    loop.call(wait=0.5, work=1.5)
    assert loop.logged == {
        "speed/images_per_second": 8.0,  # 32 images in 4 s
        "speed/data_wait": 0.25,
        "speed/step_ms": 2000.0,
    }


def test_a_call_of_several_steps(passing: Clock) -> None:
    loop = Loop(ProgressLine(16, 100, 1000, quiet=True), passing, updates=4)
    for _ in range(3):
        loop.call(wait=0.0, work=2.0)
    assert loop.logged["speed/step_ms"] == 500.0
    assert loop.logged["speed/images_per_second"] == 32.0


def test_the_line_where_there_is_no_terminal(
    passing: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = Loop(ProgressLine(16, 100, 1000, every_seconds=30), passing)
    for _ in range(10):
        loop.call(wait=0.5, work=9.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 1: compiling"
    assert len(lines) == 4  # every 30 of 100 s
    assert lines[-1] == (
        "epoch 2/160 ▸ 9/1000  loss 1.875 (rpn .25 .12 roi 1.50)  lr 0.02  1.6 img/s  data 5%"
        "  eta 2:45:10"
    )


def test_an_evaluation_says_its_scores_with_their_flavours(
    passing: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = Loop(ProgressLine(1, 1, 10, every_seconds=0), passing)
    loop.trainer.num_val_batches = [300]
    loop.trainer.sanity_checking = False
    loop.line.on_validation_batch_end(loop.trainer, loop.module, None, None, 99)
    scores = {"val/AP50_voc07": 0.5124, "val/AP50_voc12": 0.54, "val/AP75_voc12": 0.2}
    loop.trainer.callback_metrics = {k: torch.tensor(v) for k, v in scores.items()}
    loop.line.on_validation_end(loop.trainer, loop.module)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "step 0: evaluating 100/300",
        "step 0: AP50_voc07 51.2 %  AP50_voc12 54.0 %",
    ]


def test_quiet_is_quiet(passing: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop(ProgressLine(1, 1, 10, every_seconds=0, quiet=True), passing)
    loop.call(0.0, 1.0)
    assert capsys.readouterr().err == ""


def test_losses_stand_behind_the_part_they_are_of() -> None:
    names = ["rpn_objectness", "rpn_box", "roi_class", "roi_box"]
    assert loss_words(names, [0.113, 0.049, 0.306, 12.0]) == "rpn .11 .05 roi .31 12.00"
    assert loss_words(["class", "box"], [0.5, 0.25]) == "class .50 box .25"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (118, "1:58"), (7083, "1:58:03")]
)
def test_times_left(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_waiting_for_pictures_is_what_is_measured(tmp_path: Path, tiny_run: Any, at: Any) -> None:
    run = tiny_run(tmp_path, 6)
    seen = []
    run.trainer.callbacks.insert(0, at(3, lambda: seen.append(run.trainer.profiler)))
    run.fit()
    assert isinstance(seen[0], FetchTimer)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert all(0 < float(row["speed/data_wait"]) < 1 for row in rows if "train/loss" in row)
    last = run.output.getvalue().splitlines()[-1]
    assert re.match(r"epoch 1/1 ▸ 6/6  loss 0\.\d{3} \(rpn \S+ roi \S+\)  lr 0\.005  ", last)
