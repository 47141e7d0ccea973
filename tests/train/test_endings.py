"""How a run of `train.py` ends before its last step, and what it leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import detectors
from detectors.experiment.lightning_strategy import PopTorchStrategy
from tests.small_runs import Train, rows, saved

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


def test_time_is_up_after_a_step(tiny: Train, tmp_path: Path) -> None:
    stopped = tiny("trainer.max_steps=3", "trainer.max_time=00:00:00:00")
    assert stopped.code == 0
    assert "trainer.max_time is up: saved last.ckpt (step 1)" in stopped.out
    assert "continue: python train.py resume=runs/generated/1" in stopped.out
    folder = tmp_path / "runs" / "generated" / "1"
    assert saved(folder / "last.ckpt")["step"] == 1
    assert not (folder / "scores.json").exists()


def test_patience_ends_a_run_that_gets_no_better(tiny: Train, run: Train, tmp_path: Path) -> None:
    words = ("trainer.max_steps=9", "evaluate.every_steps=1", "evaluate.patience=2")
    result = tiny(*words, "optim.lr=1e-9")
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "generated" / "1"
    assert len(rows(folder)) == 3  # the first is the best, two more are not better
    assert json.loads((folder / "scores.json").read_text())["step"] == 1
    assert saved(folder / "best.ckpt")["step"] == 1
    assert saved(folder / "last.ckpt")["step"] == 3
    assert detectors.load(folder / "best.ckpt").config.num_classes == 3  # whole

    (folder / "scores.json").unlink()  # killed before they were written
    assert run("resume=runs/generated/1").code == 0
    assert len(rows(folder)) == 3
    assert json.loads((folder / "scores.json").read_text())["step"] == 1


def test_a_loss_that_is_no_number_ends_the_run(tiny: Train, tmp_path: Path) -> None:
    result = tiny("trainer.max_steps=9", "optim.lr=1e20", "optim.warmup_steps=0", "data.val=[]")
    assert result.code == 1
    found = re.search(
        r"error: loss_\w+ became (nan|inf) at step (\d); images generated_", result.err
    )
    assert found, result.err
    folder = tmp_path / "runs/generated/1"
    assert saved(folder / "nan_batch.pt")["step"] == int(found.group(2))
    assert "Traceback" in (folder / "run.log").read_text()


def test_out_of_memory_names_the_settings_that_need_less(
    tiny: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*tensors: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB")

    monkeypatch.setattr(PopTorchStrategy, "run_training", full)
    result = tiny("micro_batch_size=4", "gradient_accumulation=4", "trainer.max_steps=1")
    assert result.code == 1
    assert "out of memory on cpu: micro-batch 4 of 64x64" in result.err
    assert "micro_batch_size=2 gradient_accumulation=8 gives the same batch" in result.err
