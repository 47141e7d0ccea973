"""Which format a folder's annotations have, and which of its sets to train and to evaluate on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from data.coco_layout import coco_sets, whole_file
from data.folder import is_image, walk
from data.voc_layout import inner_folders, split_folders, tree_at, xml_names
from data.yolo_layout import below, first_line, is_label, label_of, yolo_sets
from data.yolo_yaml import read_yaml

__all__ = ["Layout", "find_layout"]

LOOKED_FOR = """  voc: .xml files with <annotation>
  coco: annotations/*.json, or */_annotations.coco.json
  yolo: data.yaml with names, or labels/*.txt"""
ENTRIES = 6  # of a folder, named in an error
ANY = r".+[-_]"  # before the word: `mine_train`; only where it names one set
TRAIN = (
    "train|training",
    r"train\d{4}",
    "trainval",
    r"trainval\d{4}",
    r"\d{4}_train",
    ANY + r"train(ing)?\d*",
)
VAL = (
    "val|valid|validation",
    r"val\d{4}",
    "minival",
    r"\d{4}_val",
    ANY + r"val(id|idation)?\d*",
    "test",
    r"test\d{4}",
    ANY + r"test\d*",
)
TEST = ("2007_test", "test", r"test\d{4}", *VAL)  # beside a trainval, which has val in it
PROBED = 1000  # pictures of a folder without labels, after which it has none
HEAD = 2048  # bytes of an XML file that its first element begins within


class Layout(NamedTuple):
    """What a folder holds."""

    format: str
    """voc, coco or yolo."""
    train: List[str]
    """Sets to train on."""
    val: List[str]
    """Sets to evaluate on."""
    line: str
    """What was found and chosen, for people."""


class Evidence(NamedTuple):
    """What speaks for a format."""

    format: str
    reason: str
    sets: List[str]
    """By name; none where nobody has split the data."""


def find_layout(root: Path, train: Sequence[str], val: Sequence[str]) -> Layout:
    """Look at a folder; `["train"]` and `["val"]` become the sets that are there in their place.
    Where there is none, they stay, and reading says what is missing.

    Args:
        root: of the dataset.
        train: sets that were asked for.
        val: the same; may be empty.

    Raises:
        FileNotFoundError: no annotations of a format that is known; the message has what is there.
        ValueError: annotations of more than one format.
    """
    if not root.is_dir():
        what = f"a file: data.root={root.parent}" if root.is_file() else "no such folder"
        raise FileNotFoundError(f"no dataset at {root}: {what}; name the place: data.root=DIR")
    looks: Sequence[Callable[[Path], Optional[Evidence]]] = (voc, coco, yolo)
    found = [one for one in (look(root) for look in looks) if one is not None]
    if not found:
        raise FileNotFoundError(
            f"no annotations in {root}; data.format=auto looks for\n{LOOKED_FOR}\n"
            + (near_label(root) or f"there {contents(root)}")
            + "; name another place: data.root=DIR, or a format: data.format="
        )
    if len(found) > 1:
        listed = " and ".join(f"{one.format} ({one.reason})" for one in found)
        formats = " or ".join(f"data.format={one.format}" for one in found)
        raise ValueError(f"{root} has annotations of more than one format: {listed}; say {formats}")
    (one,) = found
    trained, evaluated = list(train), list(val)
    if one.sets and trained == ["train"]:
        trained = training_sets(one.sets) or trained
    if one.sets and evaluated == ["val"]:
        order = TEST if trained and trained[0].endswith("trainval") else VAL
        evaluated = first_of(one.sets, order) or evaluated
    sets = f"data.train=[{','.join(trained)}] data.val=[{','.join(evaluated)}]"
    return Layout(one.format, trained, evaluated, f"data.format={one.format}: {one.reason}; {sets}")


def training_sets(sets: Sequence[str]) -> List[str]:
    """`train`, or what stands for it; all years of the devkit, where one has a test set."""
    years = [name for name in sets if re.fullmatch(r"\d{4}_trainval", name)]
    return years if years and "2007_test" in sets else first_of(sets, TRAIN)


def first_of(sets: Sequence[str], patterns: Sequence[str]) -> List[str]:
    """The last set of the first pattern that any fits, or of the devkit's years all."""
    for pattern in patterns:
        fitting = [name for name in sets if re.fullmatch(pattern, name, re.IGNORECASE)]
        if fitting and not (pattern.startswith(ANY) and len(fitting) > 1):
            return fitting if pattern.startswith(r"\d") else fitting[-1:]
    return []


def voc(root: Path) -> Optional[Evidence]:
    """XML files with an annotation, of the devkit's years or of one's own."""
    for top in (root, root / "VOCdevkit"):
        years = sorted(folder for folder in top.glob("VOC[0-9][0-9][0-9][0-9]") if folder.is_dir())
        sets = [f"{year.name[3:]}_{name}" for year in years for name in lists(year)]
        if sets:
            return Evidence("voc", " and ".join(below(year, root) for year in years), sets)
    names = xml_names(root)
    if not any(is_annotation(root / f"{name}.xml") for name in names[:3]):
        return None
    folders = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
    place = f" in {folders[0] or root.name}" if len(folders) == 1 else f" in {len(folders)} folders"
    return Evidence(
        "voc",
        f"{len(names)} .xml{place}",
        lists(root) or split_folders(root) or inner_folders(tree_at(root, official=False)),
    )


def lists(tree: Path) -> List[str]:
    """Sets of a tree's ImageSets/Main; lists of one class are left out."""
    found = sorted(path.stem for path in (tree / "ImageSets" / "Main").glob("*.txt"))
    return [name for name in found if not re.fullmatch(r".*_(train|val|trainval|test)", name)]


def is_annotation(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<annotation" in file.read(HEAD).replace(b"\0", b"")  # UTF-16, in effect


def coco(root: Path) -> Optional[Evidence]:
    """Annotation files of COCO."""
    found = coco_sets(root)
    if not found:
        return None
    names = [below(path, root) for path in found.values()]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Evidence("coco", names[0] + more, [] if whole_file(root) else list(found))


def yolo(root: Path) -> Optional[Evidence]:
    """A yaml with class names, or labels of pictures."""
    yaml = read_yaml(root)
    if yaml is not None:
        return Evidence("yolo", yaml.path.name, yolo_sets(root))
    label = first_label(root)
    return None if label is None else Evidence("yolo", below(label, root), yolo_sets(root))


def first_label(root: Path) -> Optional[Path]:
    """A text file that belongs to a picture and begins like a label."""
    return next((label for label in texts(root) if is_label(label)), None)


def texts(root: Path) -> Iterator[Path]:
    """The text files where labels of pictures would be."""
    for parent, _, files in walk(root):
        for file in sorted(file for file in files if is_image(file))[:PROBED]:
            label = label_of(parent / file, root)
            if label.is_file():
                yield label


def near_label(root: Path) -> str:
    """What is wrong with text files that lie where labels would; nothing where there are none."""
    first = next(texts(root), None)
    if first is None:
        return ""
    written = next((path for path in texts(root) if first_line(path)), None)
    if written is None:
        return f"{below(first, root)} and all other labels are empty"
    return (
        f"{below(written, root)} begins with '{first_line(written)[:40]}', which is no class number"
        " with four numbers, a space between each"
    )


def contents(root: Path) -> str:
    """`is images/, notes.txt` of a folder."""
    entries: List[Tuple[bool, str]] = [
        (not entry.is_dir(), entry.name + ("/" if entry.is_dir() else ""))
        for entry in root.iterdir()
        if not entry.name.startswith(".")
    ]
    names = [name for _, name in sorted(entries)]
    more = f" and {len(names) - ENTRIES} more" if len(names) > ENTRIES else ""
    return f"is {', '.join(names[:ENTRIES])}{more}" if names else "is nothing"
