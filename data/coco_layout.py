"""Where the files of a COCO dataset lie.

root/annotations/instances_train2017.json, root/train2017/*.jpg    set "train2017"
root/annotations/train.json, root/images/*.jpg                     set "train"
root/train/_annotations.coco.json, root/train/*.jpg                set "train"
root/annotations/instances_default.json, root/images/*.jpg         "train" and "val" drawn by a seed
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from data.download import how_to_get
from data.drawn_split import DRAWN, SPELLINGS

__all__ = ["CocoFile", "coco_sets", "find_file", "is_coco", "whole_file"]

LAYOUT = """  {root}/annotations/instances_{name}.json
  {root}/{name}/000000000139.jpg
{get}
or name the place: data.root=DIR"""
BESIDE = "_annotations.coco.json"
SPLIT_NAME = re.compile(r"(.+[-_])?(train|val|test|minival)[a-z]*[-_]?\d*", re.IGNORECASE)
HEAD = 65536  # bytes that one of a file's two long lists begins within
LISTS = (b'"images"', b'"annotations"')


class CocoFile(NamedTuple):
    """A set's annotations and the folders that its pictures may be in."""

    path: Path
    images: List[Path]
    drawn: bool
    """It holds everything; the set is a part of it."""


def find_file(root: Path, name: str) -> CocoFile:
    """The file of a set like `train2017`; of the only file there is, where nobody has split it.

    Raises:
        FileNotFoundError: with what was tried and the layout that is expected.
    """
    tried = []
    for inner in SPELLINGS.get(name, (name,)):
        images = folders(root, inner)
        for folder in (root / "annotations", root):
            for path in (folder / f"instances_{inner}.json", folder / f"{inner}.json"):
                if path.is_file():
                    return CocoFile(path, images, False)
                tried.append(path)
        path = root / inner / BESIDE
        if path.is_file():
            return CocoFile(path, [root / inner], False)
        tried.insert(2, path)
    sets = list(coco_sets(root))
    whole = whole_file(root)
    if whole is not None and name in DRAWN:
        return CocoFile(whole, folders(root, sets[0]), True)
    there = f"; there {'is' if len(sets) == 1 else 'are'} {', '.join(sets)}" if sets else ""
    raise FileNotFoundError(
        f"no annotations at {' or '.join(str(path) for path in tried[:3])}{there}; expected\n"
        + LAYOUT.format(root=root, name=name, get=what_to_do(root, name, sets))
    )


def what_to_do(root: Path, name: str, sets: List[str]) -> str:
    """How to get the official sets, unless there are others."""
    if not sets or re.fullmatch(r"[a-z]+2017", name):
        return how_to_get("coco2017", root)
    return f"or name what is there: data.train=[{sets[0]}] data.val=[{sets[-1]}]"


def folders(root: Path, name: str) -> List[Path]:
    """Where pictures of a set are looked for, in turn."""
    return [root / name, root / "images" / name, root / "images", root]


def coco_sets(root: Path) -> Dict[str, Path]:
    """Set -> its file, in the order of names; of the official files those of instances."""
    found = {path.parent.name: path for path in sorted(root.glob(f"*/{BESIDE}")) if is_coco(path)}
    for folder in (root, root / "annotations"):
        listed = [path for path in sorted(folder.glob("*.json")) if is_coco(path)]
        instances = [path for path in listed if path.stem.startswith("instances_")]
        found.update({set_name(path): path for path in instances or listed})
    return {name: found[name] for name in sorted(found)}


def whole_file(root: Path) -> Optional[Path]:
    """The file of a dataset that nobody has split: the only one, and not called after a split."""
    sets = coco_sets(root)
    name, path = next(iter(sets.items()), ("", None))
    return None if len(sets) != 1 or SPLIT_NAME.fullmatch(name) else path


def set_name(path: Path) -> str:
    """`instances_train2017.json` -> `train2017`"""
    return path.stem[len("instances_") :] if path.stem.startswith("instances_") else path.stem


def is_coco(path: Path) -> bool:
    """By a file's first bytes: whole ones may have hundreds of megabytes."""
    if not path.is_file() or path.name.startswith("."):
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and any(
        key in head for key in LISTS
    )
