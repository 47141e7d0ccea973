"""Paths of all kinds to images, in an order people expect, under names that differ."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import pytest

from data.folder import ImageFolder, find_images, image_ids, natural_key


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """images/{1,2,10}.jpg, .hidden.jpg, notes.txt, sub/{2.PNG, deep/x.jpeg}; the working directory
    is above.
    """
    for name in (
        "1.jpg",
        "2.jpg",
        "10.jpg",
        ".hidden.jpg",
        "notes.txt",
        "sub/2.PNG",
        "sub/deep/x.jpeg",
    ):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str, recursive: bool = False) -> List[str]:
    return [file.name for file in find_images(paths, recursive=recursive)]


def test_a_folder_is_in_natural_order(tree: Path) -> None:
    assert names("images") == ["1.jpg", "2.jpg", "10.jpg"]


def test_recursive_takes_sub_folders_under_their_paths(tree: Path) -> None:
    found = names("images", recursive=True)
    assert found == ["1.jpg", "2.jpg", "10.jpg", "sub/2.PNG", "sub/deep/x.jpeg"]


def test_a_glob_names_files_below_its_fixed_part(tree: Path) -> None:
    assert names("images/*.jpg") == ["1.jpg", "2.jpg", "10.jpg"]
    assert names("images/**/*.jpeg") == ["sub/deep/x.jpeg"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tree: Path) -> None:
    (tree / "img[1].jpg").touch()
    assert names("img[1].jpg") == ["img[1].jpg"]


def test_a_named_file_is_taken_whatever_its_extension(tree: Path) -> None:
    assert names("images/notes.txt") == ["notes.txt"]


def test_a_file_that_is_named_twice_counts_once(tree: Path) -> None:
    assert names("images/2.jpg", "images", "./images/2.jpg") == ["2.jpg", "1.jpg", "10.jpg"]


def test_files_of_one_name_are_told_apart_by_their_folders(tree: Path) -> None:
    (tree / "other").mkdir()
    (tree / "other" / "2.jpg").touch()
    assert names("images/2.jpg", "other/2.jpg", "images/1.jpg") == [
        "images/2.jpg",
        "other/2.jpg",
        "1.jpg",
    ]


def test_a_listed_relative_path_is_the_name(tree: Path) -> None:
    listed = ["./images/2.jpg", "images/sub/2.PNG", str(tree / "images" / "1.jpg")]
    found = [file.name for file in find_images([], listed=listed)]
    assert found == ["images/2.jpg", "images/sub/2.PNG", "1.jpg"]


def test_a_wrong_path_names_the_part_that_is_wrong(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: imags.*mean.*images\?"):
        find_images(["imags/sub"])


def test_an_empty_folder_says_what_was_looked_for(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images in empty/ \(looked for jpg jpeg png"):
        find_images(["empty"])


def test_images_in_sub_folders_only_are_hinted_at(tree: Path) -> None:
    (tree / "top" / "a").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="1 sub-folders: use --recursive"):
        find_images(["top"])


def test_a_glob_without_a_match_is_an_error(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no images match images/\*\.tif"):
        find_images(["images/*.tif"])


def test_natural_order_compares_numbers_as_numbers() -> None:
    mixed = ["img10", "img2", "Img1", "a", "10", "9b", "9"]
    assert sorted(mixed, key=natural_key) == ["9", "9b", "10", "a", "Img1", "img2", "img10"]


def test_coco_file_names_are_their_ids() -> None:
    assert image_ids(["val/000000005001.jpg", "000000000139.jpg"]) == [5001, 139]


def test_other_names_are_numbered_from_one() -> None:
    assert image_ids(["a.jpg", "7.jpg"]) == [1, 2]
    assert image_ids(["a/7.jpg", "b/7.jpg"]) == [1, 2]  # an id may occur once only


def test_a_dataset_reads_the_file_it_is_asked_for(shared_data: Path) -> None:
    files = find_images([str(shared_data / "coco" / "val2017")])
    sample = ImageFolder(files)[1]
    assert (sample.name, sample.image_id) == ("000000030213.jpg", 30213)
    assert sample.image.shape == (3, *sample.original_size)
    assert len(sample.boxes) == len(sample.labels) == 0


@pytest.mark.skipif(os.name == "nt", reason="symlinks need rights on Windows")
def test_links_to_folders_are_followed(tree: Path) -> None:
    (tree / "link").symlink_to(tree / "images" / "sub")
    assert names("link") == ["2.PNG"]
