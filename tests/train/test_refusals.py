"""What `train.py` refuses before a run begins, leaving nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from detectors.commands.train.model import build_model
from detectors.experiment.recipe import load_recipe
from detectors.weights import save
from tests.small_runs import TINY, Train, voc_pictures, write_recipe

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


def custom(folder: Path, *words: str) -> str:
    """`recipe=` of a file: voc_custom made small, for pictures at `folder`."""
    small = [word for word in TINY if not word.startswith("data.count")]
    own = ["model.weights=random", "model.depth=18", f"data.root={folder}", "data.val=[]"]
    path = write_recipe(folder.with_suffix(".yaml"), "voc_custom", [*small, *own, *words])
    return f"recipe={path}"


def test_an_unreadable_picture_stops_the_run_before_it_begins(run: Train, tmp_path: Path) -> None:
    root = voc_pictures(tmp_path / "mine", ("cat", "dog"), count=4)
    picture = root / "JPEGImages/2.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    recipe = custom(root)
    result = run(recipe)
    assert result.code == 1
    assert "JPEGImages/2.jpg" in result.err
    assert "data.skip_bad=true" in result.err
    check = run(recipe, "task=check")
    assert check.code == 1
    assert "JPEGImages/2.jpg" in check.out
    assert not (tmp_path / "runs").exists()
    skipped = run(recipe, "data.skip_bad=true", "trainer.max_steps=1")
    assert skipped.code == 0, skipped.err
    listed = (tmp_path / "runs/voc_custom/1/bad_images.txt").read_text()
    assert listed.startswith("JPEGImages/2.jpg: ")


def test_a_detector_of_other_classes_needs_a_word_about_its_head(
    run: Train, small: Path, tmp_path: Path
) -> None:
    model, _ = build_model(load_recipe(small), ("circle", "square", "triangle"))
    save(model, tmp_path / "start.ckpt", classes=("circle", "square", "triangle"))
    root = voc_pictures(tmp_path / "mine", ("circle", "dog"), count=4)
    recipe = custom(root, "model.anchors.ratios=[1.0]", "model.box_head.append_boxes=true")
    words = ("model.weights=start.ckpt", "model.norm=batch", "model.frozen_stages=0")
    result = run(recipe, *words)
    assert result.code == 2
    assert "checkpoint: 3 classes (circle, square, triangle); data: 2 (circle, dog)" in result.err
    assert "to fine-tune: weights=start.ckpt head=map keeps the rows of circle" in result.err
    assert "weights=start.ckpt head=new" in result.err
    assert not (tmp_path / "runs").exists()
    tuned = run(recipe, *words, "model.head=map", "trainer.max_steps=1")
    assert tuned.code == 0, tuned.err
    assert "rows kept of circle; new: dog" in tuned.out


def test_a_disk_without_room_is_told_before_the_run(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(90_000_000))
    result = tiny()
    assert result.code == 1
    assert "90 MB free" in result.err
    assert "run.root=DIR" in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_logger_that_is_not_installed_is_told_before_the_run(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    result = tiny("run.loggers=[wandb]")
    assert result.code == 1
    assert "run.loggers has wandb, which is not installed: pip install wandb" in result.err
    assert list(tmp_path.iterdir()) == []


def test_the_ipu_is_not_replaced(tiny: Train, tmp_path: Path) -> None:
    result = tiny("device=ipu")
    assert result.code == 1
    assert "device=ipu needs the Poplar SDK" in result.err
    assert list(tmp_path.iterdir()) == []
