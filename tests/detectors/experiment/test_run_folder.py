"""Numbered folders that are never written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.experiment.run_folder import chosen_folder, new_run_folder


def test_numbers_go_up_and_last_points_to_the_newest(tmp_path: Path) -> None:
    parent = tmp_path / "runs" / "infer" / "efficientdet-d0"
    assert [new_run_folder(parent).name for _ in range(3)] == ["1", "2", "3"]
    assert (parent / "last").resolve() == (parent / "3").resolve()


def test_a_gap_is_not_filled(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert new_run_folder(tmp_path).name == "8"


def test_a_chosen_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"has files in it.*--overwrite"):
        chosen_folder(tmp_path, overwrite=False)
    assert chosen_folder(tmp_path, overwrite=True) == tmp_path


def test_an_empty_or_new_folder_is_taken(tmp_path: Path) -> None:
    assert chosen_folder(tmp_path, overwrite=False) == tmp_path
    assert chosen_folder(tmp_path / "a" / "b", overwrite=False).is_dir()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match="is a file"):
        chosen_folder(tmp_path / "a", overwrite=True)
