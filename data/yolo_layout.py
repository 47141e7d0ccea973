"""Where the files of a YOLO dataset lie.

root/data.yaml with path, train, val (folders, list files, lists of those) and names
root/images/train/*.jpg, root/labels/train/*.txt     set "train"
root/train/images/*.jpg, root/train/labels/*.txt     set "train"
root/train/*.jpg, root/train/*.txt                   set "train"
root/train.txt: a picture's path per line            set "train"
root/images/*.jpg, root/labels/*.txt                 "train" and "val" drawn by a seed
root/*.jpg, root/*.txt                               the same
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from data.drawn_split import DRAWN, SPELLINGS
from data.folder import is_image, natural_key, walk
from data.yolo_yaml import YoloYaml, read_yaml

__all__ = [
    "YoloSet",
    "find_set",
    "first_line",
    "is_label",
    "label_of",
    "pictures_below",
    "yolo_sets",
]

LAYOUT = """  {root}/data.yaml with train, val and names
  or {root}/images/train/*.jpg {root}/labels/train/*.txt, and val likewise
  or {root}/images/*.jpg {root}/labels/*.txt   (a split is drawn by the seed)
  class names: data.yaml, classes.txt or obj.names
or name the place: data.root=DIR"""
LABELS = ("labels", "Labels")  # beside a folder of pictures
HEAD = 4096  # bytes of a text file that its first line lies within
USUAL = ("train", "training", "val", "valid", "validation", "test", "trainval")


class YoloSet(NamedTuple):
    """A set's pictures."""

    pictures: List[Path]
    """In natural order, or as listed."""
    source: str
    """What said so: a folder or a file below the root."""
    listed: bool
    """By a file: labels beside them may belong to another set."""
    drawn: bool
    """They are all there are; the set is a part of them."""


def find_set(root: Path, name: str, yaml: Optional[YoloYaml] = None) -> YoloSet:
    """The pictures of a set like `train`.

    Args:
        root: of the dataset.
        name: the set.
        yaml: the dataset's, where it was read already.

    Raises:
        FileNotFoundError: with what was tried and the layout that is expected.
        ValueError: a list without a picture.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"no dataset at {root}: no such folder; expected\n" + LAYOUT.format(root=root)
        )
    yaml = yaml or read_yaml(root)
    spellings = SPELLINGS.get(name, (name,))
    for inner in spellings:
        if yaml is not None and inner in yaml.sets:
            return said_by_yaml(root, yaml, inner)
    for inner in spellings if yaml is None or not yaml.sets else ():
        for folder in (root / "images" / inner, root / inner / "images", root / inner):
            pictures = pictures_below(folder)
            if pictures:
                return YoloSet(pictures, below(folder, root), False, False)
        if (root / f"{inner}.txt").is_file():
            path = root / f"{inner}.txt"
            return YoloSet(read_list(path, root), path.name, True, False)
    sets = yolo_sets(root)
    folder = root / "images" if (root / "images").is_dir() else root
    if not sets and name in DRAWN:
        pictures = pictures_below(folder)
        if pictures:
            return YoloSet(pictures, below(folder, root), False, True)
    said = f"it has {', '.join(sets)}" if sets else "no pictures in it"
    raise FileNotFoundError(
        f"no set '{name}' in {root}: {said}; expected\n" + LAYOUT.format(root=root)
    )


def yolo_sets(root: Path) -> List[str]:
    """The sets that a dataset names, by yaml, folders or lists; none where one is to be drawn."""
    yaml = read_yaml(root)
    if yaml is not None and yaml.sets:
        return list(yaml.sets)
    found: Dict[str, None] = {}
    inside = sorted((root / "images").iterdir()) if (root / "images").is_dir() else []
    for folder in inside:
        if folder.is_dir() and pictures_below(folder):
            found[folder.name] = None
    for folder in sorted(root.iterdir()):
        if (folder / "images").is_dir() or (
            folder.name.lower() in USUAL and pictures_below(folder)
        ):
            found[folder.name] = None
    for name in USUAL:
        if (root / f"{name}.txt").is_file():
            found[name] = None
    return list(found)


def said_by_yaml(root: Path, yaml: YoloYaml, name: str) -> YoloSet:
    """The pictures of a yaml's key."""
    pictures: Dict[Path, None] = {}
    listed = False
    for place in (yaml.place(root, name, text) for text in yaml.sets[name]):
        listed |= place.is_file()
        found = read_list(place, yaml.base) if place.is_file() else pictures_below(place)
        if not found:
            raise FileNotFoundError(f"{yaml.path} says {name} is in {place}: no pictures there")
        pictures.update(dict.fromkeys(found))
    return YoloSet(list(pictures), f"{yaml.path.name} ({name})", listed, False)


def read_list(path: Path, base: Path) -> List[Path]:
    """The pictures of a list file, in its order. Lists are written on other machines: of a path
    that leads nowhere the last parts are looked for below `base`.

    Raises:
        FileNotFoundError: pictures that are not there.
        ValueError: an empty list.
    """
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = [line.strip().replace("\\", "/") for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} names no image: it is empty")
    found = {line: find_listed(line, path.parent, base) for line in lines}
    missing = [line for line, place in found.items() if place is None]
    if missing:
        raise FileNotFoundError(
            f"{path} names {len(found)} images; {len(missing)} are not there, first: {missing[0]}"
        )
    return [place for place in found.values() if place is not None]


def find_listed(line: str, beside: Path, base: Path) -> Optional[Path]:
    parts = Path(line).parts
    tries = [base / line, beside / line]
    tries += [base.joinpath(*parts[start:]) for start in range(1, len(parts))]
    return next((normal(path) for path in tries if path.is_file()), None)


def pictures_below(folder: Path) -> List[Path]:
    """Of a folder and its sub-folders, in natural order."""
    found = []
    for parent, _, files in walk(folder):
        found += [parent / file for file in files if is_image(file)]
    return sorted(found, key=lambda path: natural_key(path.as_posix()))


def label_of(picture: Path, root: Path) -> Path:
    """`images/train/a.jpg` -> `labels/train/a.txt`: the last `images` below the root becomes
    `labels`. Without one, or without such a folder, the file lies beside its picture.
    """
    parts = below(picture, root).split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        for name in LABELS:
            parts[places[-1]] = name
            path = root / "/".join(parts)
            if path.parent.is_dir():
                return path.with_suffix(".txt")
    return picture.with_suffix(".txt")


def is_label(path: Path) -> bool:
    """Whether a text file's first line begins like a label: a class number and four numbers or
    more.
    """
    fields = first_line(path).split()[:5]
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return False
    return len(numbers) == 5 and numbers[0] >= 0


def first_line(path: Path) -> str:
    """The first line of a text file in which something stands; none of an empty one."""
    with path.open("rb") as file:
        head = file.read(HEAD).decode("utf-8-sig", errors="replace")
    return next((line.strip() for line in head.splitlines() if line.strip()), "")


def below(path: Path, root: Path) -> str:
    """`path` as seen from `root`, parts joined by '/'; yaml files and lists may lead out of it."""
    return Path(os.path.relpath(path, root)).as_posix()


def normal(path: Path) -> Path:
    """Without `.` and `..`."""
    return Path(os.path.normpath(path))
