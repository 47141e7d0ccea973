"""Links among folders: followed, unless they lead round in a circle."""

from __future__ import annotations

from pathlib import Path

from data.folder import walk
from data.yolo_layout import pictures_below


def test_a_link_that_leads_back_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "a.jpg").touch()
    (tmp_path / "images" / "deep" / "b.jpg").touch()
    (tmp_path / "images" / "deep" / "back").symlink_to(tmp_path)
    (tmp_path / "images" / "self").symlink_to(tmp_path / "images")
    found = [path.relative_to(tmp_path).as_posix() for path in pictures_below(tmp_path)]
    assert found == ["images/a.jpg", "images/deep/b.jpg"]


def test_two_links_to_one_folder_are_both_entered(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.jpg").touch()
    for name in ("train", "val"):
        (tmp_path / name).symlink_to("all")
    seen = {parent.relative_to(tmp_path).as_posix(): files for parent, _, files in walk(tmp_path)}
    assert seen == {".": [], "all": ["a.jpg"], "train": ["a.jpg"], "val": ["a.jpg"]}
