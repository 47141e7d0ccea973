"""What a run of `train.py` leaves: a folder that says everything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import detectors
import infer
from detectors.commands.screen import versions
from tests.small_runs import Train, losses, rows, saved

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


def test_a_run_leaves_a_folder_that_says_everything(
    tiny: Train, run: Train, tmp_path: Path
) -> None:
    result = tiny("trainer.max_steps=3", "seed=5")
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "generated" / "1"
    assert {file.name for file in folder.iterdir()} >= {
        "best.ckpt",
        "command.txt",
        "comp4_det_test_circle.txt",
        "config.yaml",
        "detections.json",
        "environment.txt",
        "last.ckpt",
        "metrics.csv",
        "run.log",
        "scores.json",
        "train_batches.jpg",
    }
    lines = result.out.splitlines()
    assert lines[0] == "device cpu · fp32"
    assert lines.index("run runs/generated/1") <= 11  # a header of at most twelve lines
    assert "lr 0.02 is for 16 images per step, this run has 1: unchanged" in result.out
    assert "AP50_voc07" in result.out
    assert lines[-3:] == [
        "runs/generated/1/best.ckpt",
        "draw some: python -m data.generated images --size 64 64 --noise 64 --seed 7",
        "try it: python infer.py runs/generated/1/best.ckpt images/",
    ]
    assert os.readlink(tmp_path / "runs" / "generated" / "last") == "1"
    assert (folder / "command.txt").read_text().startswith("python train.py recipe=")
    assert f"torch {versions('torch')['torch']}" in (folder / "environment.txt").read_text()
    scores = json.loads((folder / "scores.json").read_text())
    assert 0 <= scores["AP50_voc07"] <= 1
    assert scores["step"] == 3

    table = rows(folder)
    assert [row["step"] for row in table] == ["1", "2", "3"]
    parts = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
    for row in table:
        total = sum(float(row[f"train/loss_{part}"]) for part in parts)
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)
        assert float(row["speed/images_per_second"]) > 0
    assert table[-1]["val/AP50_voc07"] != ""
    assert float(table[-1]["optim/lr"]) == pytest.approx(0.02)

    checkpoint = saved(folder / "last.ckpt")
    assert checkpoint["step"] == 3
    assert checkpoint["detectors"]["classes"] == ["circle", "square", "triangle"]
    assert checkpoint["detectors"]["category_ids"] == [1, 2, 3]
    model = detectors.load(folder / "best.ckpt")
    assert model.config.image_size == (64, 64)
    words = [str(folder / "best.ckpt"), "--generated", "2", "--out", "out", "--score", "0"]
    assert infer.main(words) == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert found["classes"] == ["circle", "square", "triangle"]

    again = run("recipe=runs/generated/1/config.yaml", "data.val=[]")
    assert again.code == 0, again.err
    assert losses(folder) == losses(tmp_path / "runs" / "generated" / "2")


def test_a_run_does_without_the_drawing_of_its_first_pictures(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no room for a drawing")

    monkeypatch.setattr("detectors.commands.train.batch_view.write_whole", full)
    result = tiny("trainer.max_steps=1", "data.val=[]", "augment.mosaic=1", "data.max_boxes=1")
    assert result.code == 0, result.err
    beyond = [line for line in result.out.splitlines() if "beyond data.max_boxes" in line]
    assert len(beyond) == 1
    assert beyond[0].endswith("and left out")  # what came next stood on the same line
    folder = tmp_path / "runs/generated/1"
    assert not (folder / "train_batches.jpg").exists()
    assert "no train_batches.jpg: no room for a drawing" in (folder / "run.log").read_text()


def test_a_call_of_two_updates_counts_as_two_steps(tiny: Train, tmp_path: Path) -> None:
    words = ("device_iterations=2", "evaluate.every_steps=2", "trainer.deterministic=true")
    result = tiny("trainer.max_steps=4", *words)
    torch.use_deterministic_algorithms(False)
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "generated" / "1"
    assert [row["step"] for row in rows(folder) if row["val/AP50_voc07"]] == ["2", "4"]
    assert saved(folder / "last.ckpt")["step"] == 4


def test_tensorboard_has_the_run_folder(tiny: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    result = tiny("trainer.max_steps=1", "data.val=[]", "run.loggers=[tensorboard]")
    assert result.code == 0, result.err
    assert list((tmp_path / "runs" / "generated" / "1").glob("events.out.tfevents.*"))
