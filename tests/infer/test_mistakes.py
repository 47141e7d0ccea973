"""Mistakes people make with `infer.py`: an exit code, at most six lines, nothing written."""

from __future__ import annotations

import io
import re
import sys
import urllib.error
from pathlib import Path

import pytest
import torch

from detectors.models.efficientdet.config import EfficientDetConfig
from tests.infer.small_runs import Infer, files_in


def test_a_wrong_model_name_is_answered_with_the_nearest(run: Infer, photos: Path) -> None:
    run("efficientdet-d9", photos).refused(2, "efficientdet-d9", "did you mean", "efficientdet-d7")


def test_a_checkpoint_that_is_not_there_is_a_mistake(run: Infer, photos: Path) -> None:
    run("runs_of_mine/best.ckpt", photos).refused(2, "runs_of_mine/best.ckpt")
    run("d0", photos, "--weights", "none.pth").refused(2, "none.pth")


def test_a_run_folder_without_a_checkpoint_is_a_mistake(run: Infer, photos: Path) -> None:
    run(photos, photos).refused(2, "no best.ckpt or last.ckpt")


def test_a_run_folder_stands_for_its_best_checkpoint(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.ckpt").write_bytes(checkpoint.read_bytes())
    result = run("mine", photos / "1.jpg", "--no-images")
    assert result.code == 0
    assert "weights best.ckpt (detectors)" in result.out


def test_a_checkpoint_with_weights_beside_it_contradicts_itself(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    run(checkpoint, photos, "--random-weights").refused(2, "brings its weights")


def test_images_in_the_place_of_the_model_are_told_so(run: Infer, photos: Path) -> None:
    run("photos").refused(2, "photos stands where the model does")
    run("photos/1.jpg").refused(2, "infer.py efficientdet-d2 photos/1.jpg")
    run("photos", "photos").refused(2, "the first word is the model")
    run("photos/1.jpg", "photos").refused(2, "starts with b'", "no file of tensors")


def test_a_wrong_path_is_answered_with_the_nearest(run: Infer, photos: Path) -> None:
    run("d0", "phots", "--random-weights").refused(2, "phots", "did you mean photos?")


def test_an_empty_folder_says_what_was_looked_for(run: Infer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run("d0", "empty", "--random-weights").refused(2, "no images in empty/", "jpg jpeg png")


def test_images_in_sub_folders_are_found_with_recursive(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "top").mkdir()
    photos.rename(tmp_path / "top" / "photos")
    run(checkpoint, "top").refused(2, "1 sub-folders: use --recursive")
    assert run(checkpoint, "top", "--recursive", "--out", "out", "--quiet").code == 0
    assert "images/photos/1.jpg" in files_in(Path("out"))


def test_an_empty_list_on_stdin_is_a_mistake(
    run: Infer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    run(checkpoint, "-").refused(2, "stdin listed no paths")


def test_a_class_that_the_model_lacks_is_answered_with_the_nearest(
    run: Infer, photos: Path
) -> None:
    words = ("d0", photos, "--random-weights", "--classes", "zebra,unicorn")
    run(*words).refused(2, "unicorn is not among 90 names", "nearest:")


def test_another_number_of_classes_is_refused_with_both(
    run: Infer, checkpoint: Path, photos: Path, small_d0: EfficientDetConfig
) -> None:
    result = run("d0", photos, "--weights", checkpoint)
    result.refused(2, "3 classes (cat, dog, cow)", "model: 90")


def test_a_wrong_option_or_value_is_answered(run: Infer, photos: Path) -> None:
    run("d0", photos, "--scor", ".3").refused(2, "no option '--scor'", "--score")
    run("d0", photos, "--score", "high").refused(2, "expected a number in 0..1, got 'high'")


def test_a_wrong_config_key_or_value_is_answered(run: Infer, photos: Path, tmp_path: Path) -> None:
    words = ("d0", photos, "--random-weights", "--config")
    run(*words, "throughputt").refused(2, "did you mean throughput?")
    run(*words, "throughput", "--set", "io_tilez=32").refused(2, "did you mean io_tiles")
    run(*words, "throughput", "--set", "io_tiles=abc").refused(2, "io_tiles", "abc")
    run(*words, "none.yaml").refused(2, "none.yaml")


def test_an_output_folder_with_files_is_kept_unless_told(
    run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    words = (checkpoint, photos / "1.jpg", "--no-images", "--quiet", "--out", "out")
    run(*words).refused(2, "--out out has files in it", "--overwrite")
    assert files_in(tmp_path / "out") == {"notes.txt"}
    assert run(*words, "--overwrite").code == 0
    assert files_in(tmp_path / "out") == {"notes.txt", "detections.json", "run.log"}


def test_nothing_over_the_score_names_the_best_and_what_to_try(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    result = run(checkpoint, photos, "--score", 1, "--no-images")
    assert result.code == 0
    found = re.search(
        r"0 boxes > 1; best is [\d.]+ \((cat|dog|cow), \d.jpg\): try --score", result.out
    )
    assert found is not None


def test_weights_that_cannot_be_had_are_never_replaced_by_random_ones(
    run: Infer, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    result = run("d0", photos)
    result.refused(1, "https://", "f153e0cf", str(tmp_path / "cache"), "--weights")
    left = {path.suffix for path in (tmp_path / "cache").rglob("*")}
    assert not left & {".pth", ".part"}


def test_torchvision_of_another_release_is_explained(
    run: Infer, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mismatch(args: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("detectors.commands.infer.model.load_model", mismatch)
    run("d0", photos, "--random-weights").refused(1, "does not fit torchvision", "pip install")


def test_a_device_that_is_not_there_is_not_replaced(run: Infer, photos: Path) -> None:
    if not torch.cuda.is_available():
        run("d0", photos, "--device", "cuda").refused(1, "--device cuda", "--device cpu")
    run("d0", photos, "--device", "ipu").refused(1, "Poplar SDK", "--device cpu")
