"""`metrics.csv` has a row per step, exact numbers, and survives crashes and resumes."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any, Callable

import pytest

from detectors.experiment.atomic import DiskFullError
from detectors.experiment.lightning_metrics import MetricsCSV, read_metrics


def test_a_row_is_on_the_disk_when_it_is_logged(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 0.1, "epoch": 0}, step=20)
    logger.log_metrics({"train/loss": 1 / 3, "epoch": 0}, step=40)
    text = (tmp_path / "metrics.csv").read_text()
    assert text == f"step,train/loss\n20,0.1\n40,{1 / 3!r}\n"
    assert float(read_metrics(logger.path)[1]["train/loss"]) == 1 / 3


def test_what_comes_later_for_a_step_completes_its_row(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 0.5, "optim/lr": 0.02}, step=1)
    logger.log_metrics({"val/AP50_voc07": 0.25}, step=1)
    logger.log_metrics({"train/loss": 0.375, "optim/lr": 0.02}, step=2)
    logger.log_metrics({"val/AP50_voc07": 0.5}, step=2)
    logger.log_metrics({"val/AP50_voc07": 0.75}, step=3)
    assert (tmp_path / "metrics.csv").read_text() == (
        "step,train/loss,optim/lr,val/AP50_voc07\n1,0.5,0.02,0.25\n2,0.375,0.02,0.5\n3,,,0.75\n"
    )


def test_a_completed_row_may_be_shorter_than_it_was(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"loss": 0.123456789}, step=1)
    logger.log_metrics({"loss": 0.5}, step=1)
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n1,0.5\n"


def test_nan_and_infinity_are_written_as_such(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"a": float("nan"), "b": float("inf")}, step=1)
    assert read_metrics(logger.path) == [{"step": "1", "a": "nan", "b": "inf"}]


def test_a_resumed_run_cuts_later_rows_and_goes_on(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    for step in (10, 20, 30):
        logger.log_metrics({"train/loss": step / 4}, step=step)
    again = MetricsCSV(tmp_path, resume_step=20)
    assert [row["step"] for row in read_metrics(again.path)] == ["10", "20"]
    again.log_metrics({"val/AP50_voc07": 0.5}, step=20)
    again.log_metrics({"train/loss": 1.0}, step=30)
    assert (tmp_path / "metrics.csv").read_text() == (
        "step,train/loss,val/AP50_voc07\n10,2.5,\n20,5.0,0.5\n30,1.0,\n"
    )


def test_a_row_that_a_crash_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,optim/lr\n10,0.5,0.02\n20,0.3")
    assert [row["step"] for row in read_metrics(path)] == ["10"]
    MetricsCSV(tmp_path, resume_step=20).log_metrics({"train/loss": 0.25}, step=20)
    assert path.read_text() == "step,train/loss,optim/lr\n10,0.5,0.02\n20,0.25,\n"


def test_a_resume_before_the_first_row_begins_the_file_anew(tmp_path: Path) -> None:
    MetricsCSV(tmp_path).log_metrics({"train/loss": 0.5}, step=20)
    again = MetricsCSV(tmp_path, resume_step=10)
    again.log_metrics({"train/loss": 0.25}, step=20)
    assert read_metrics(again.path) == [{"step": "20", "train/loss": "0.25"}]
    assert MetricsCSV(tmp_path / "nothing there", resume_step=10).path.name == "metrics.csv"


def test_a_new_run_does_not_write_into_another_ones_file(tmp_path: Path) -> None:
    MetricsCSV(tmp_path).log_metrics({"train/loss": 0.5}, step=20)
    with pytest.raises(FileExistsError, match=r"metrics\.csv is of another run"):
        MetricsCSV(tmp_path)


def test_class_names_may_hold_commas(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"val/class/cup, blue": 0.5}, step=1)
    assert read_metrics(logger.path) == [{"step": "1", "val/class/cup, blue": "0.5"}]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 0.5}, step=1)
    before = logger.path.read_bytes()
    real: Callable[..., Any] = builtins.open
    monkeypatch.setattr(builtins, "open", lambda name, mode="r", *rest: real("/dev/full", "wb"))
    with pytest.raises(DiskFullError, match=r"disk full writing metrics\.csv"):
        logger.log_metrics({"train/loss": 0.25}, step=2)
    monkeypatch.undo()
    assert logger.path.read_bytes() == before


def test_a_run_writes_its_losses_learning_rate_speed_and_scores(
    tmp_path: Path, tiny_run: Any
) -> None:
    tiny_run(tmp_path, 6, log_every=2, scores={5: 0.5}).fit()
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["2", "4", "5", "6"]
    assert set(rows[0]) == {
        "step",
        "train/loss",
        "train/loss_rpn_box",
        "train/loss_roi_class",
        "optim/lr",
        "speed/images_per_second",
        "speed/data_wait",
        "speed/step_ms",
    }
    assert rows[2] == {"step": "5", "val/AP50_voc07": "0.5"}
