"""A stopped, killed or finished run of `train.py` goes on, to the last digit."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import pytest
import torch

from tests.small_runs import TINY, Train, losses, rows, saved, signal_after, write_recipe

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


def write_rows(folder: Path, table: List[Dict[str, str]]) -> None:
    with open(folder / "metrics.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def test_ctrl_c_saves_and_the_resumed_run_is_the_uninterrupted_one(
    tiny: Train, run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("trainer.max_steps=6", "evaluate.every_steps=3", "gradient_accumulation=2")
    assert tiny(*words).code == 0
    with monkeypatch.context() as patch:
        signal_after(4, signal.SIGINT, patch)
        stopped = tiny(*words)
    assert stopped.code == 130
    assert "stopping after this step" in stopped.err
    assert stopped.out.splitlines()[-1] == (
        "saved last.ckpt (step 4); continue: python train.py resume=runs/generated/2"
    )
    whole, parts = (tmp_path / "runs" / "generated" / name for name in "12")
    assert saved(parts / "last.ckpt")["step"] == 4
    assert not (parts / "scores.json").exists()
    going_on = run("resume=runs/generated/2")
    assert going_on.code == 0, going_on.err
    assert "going on at step 4" in going_on.out
    assert losses(whole) == losses(parts)
    one, other = (saved(folder / "last.ckpt") for folder in (whole, parts))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
    assert len((parts / "command.txt").read_text().splitlines()) == 2


def test_sigterm_saves_and_auto_goes_on(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("trainer.max_steps=2", "data.val=[]", "resume=auto")
    with monkeypatch.context() as patch:
        signal_after(1, signal.SIGTERM, patch)
        begun = tiny(*words)
    assert begun.code == 143
    assert "resume=auto: no run of generated to go on with: this is a new one" in begun.out
    result = tiny(*words)
    assert result.code == 0, result.err
    assert "run runs/generated/1" in result.out
    assert "data.val is []: nothing was evaluated on" in result.out


def test_a_killed_run_goes_on_to_the_last_digit(
    run: Train, repository: Path, shared_data: Path, tmp_path: Path
) -> None:
    # Real pictures, a worker, and another process: no test can kill its own.
    words = [word for word in TINY if not word.startswith("data.")]
    words += ["model.weights=random", "model.depth=18", f"data.root={shared_data / 'bccd'}"]
    words += ["data.val=[]", "data.workers=1", "trainer.max_steps=8"]
    recipe = write_recipe(tmp_path / "small.yaml", "voc_custom", words)
    folder = tmp_path / "runs" / "voc_custom" / "1"
    threads = str(torch.get_num_threads())  # sums depend on them
    process = subprocess.Popen(
        [sys.executable, str(repository / "train.py"), f"recipe={recipe}"],
        env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (folder / "metrics.csv").exists() or len(losses(folder)) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    step, seen = saved(folder / "last.ckpt")["step"], losses(folder)
    assert 3 <= step <= len(seen)
    going_on = run(f"recipe={recipe}", "resume=auto")
    assert f"going on at step {step}" in going_on.out
    assert run(f"recipe={recipe}", "run.root=other").code == 0
    whole = losses(tmp_path / "other" / "voc_custom" / "1")
    assert len(whole) == 8
    assert losses(folder) == whole
    assert seen == whole[: len(seen)]


def test_a_finished_run_is_told_evaluated_and_made_longer(
    tiny: Train, run: Train, tmp_path: Path
) -> None:
    assert tiny("trainer.max_steps=2").code == 0
    folder = tmp_path / "runs" / "generated" / "1"
    finished = tiny("trainer.max_steps=2", "resume=auto")
    assert finished.code == 0
    assert re.search(r"run runs/generated/1 finished at step 2 \(AP50_voc07 0\.\d+\)", finished.out)
    assert "task=evaluate weights=runs/generated/1" in finished.out
    assert len((folder / "command.txt").read_text().splitlines()) == 1  # nothing was run
    longer = finished.out.splitlines()[-1].partition("train.py ")[2].split()
    assert longer == ["resume=runs/generated/1", "trainer.max_steps=3", "resume_changes=allow"]

    scores, table = (folder / "scores.json").read_text(), rows(folder)
    for name in ("scores.json", "best.ckpt", "detections.json"):  # killed in its last evaluation
        (folder / name).unlink()
    write_rows(folder, [{**row, "val/AP50_voc07": "", "val/AP50_voc12": ""} for row in table])
    assert run("resume=runs/generated/1").code == 0
    assert (folder / "scores.json").read_text() == scores
    assert rows(folder) == table
    assert (folder / "best.ckpt").exists()

    assert run(*longer).code == 0
    assert json.loads((folder / "scores.json").read_text())["step"] in (2, 3)
    assert [row["step"] for row in rows(folder)] == ["1", "2", "3"]
