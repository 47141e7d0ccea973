"""Where the files of a VOC dataset lie: the devkit's years, or a folder of one's own.

root/VOC2007/{Annotations,ImageSets/Main,JPEGImages}     set "2007_trainval"
root/VOCdevkit/VOC2007/...                               the same
root/{Annotations,ImageSets/Main,JPEGImages}             set "train", by ImageSets/Main/train.txt
root/{Annotations,images}                                "train" and "val" drawn by a seed, "all"
root/train/*.xml, root/valid/*.xml                       by folder
root/{Annotations/train,JPEGImages}                      the same
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from data.download import how_to_get
from data.drawn_split import DRAWN, SPELLINGS, draw
from data.folder import is_image, natural_key, walk

__all__ = [
    "ImageIndex",
    "LAYOUT",
    "VocFolder",
    "find_folder",
    "inner_folders",
    "set_members",
    "split_folders",
    "tree_at",
    "xml_names",
]

LAYOUT = """  {root}/VOC2007/Annotations/000001.xml JPEGImages/000001.jpg
  {root}/VOC2007/ImageSets/Main/trainval.txt test.txt, and VOC2012 likewise
{get}
or name the place: data.root=DIR"""
OWN_LAYOUT = """  {root}/Annotations/*.xml   (or xml files in any folder below)
  {root}/JPEGImages/*.jpg    (or pictures in any folder below)
  {root}/ImageSets/Main/train.txt val.txt   (optional; else a split is drawn by the seed)
name the place: data.root=DIR"""
SPLIT_FOLDERS = ("train", "training", *SPELLINGS["val"], "test")


@dataclass(frozen=True)
class VocFolder:
    """One tree of annotations and pictures."""

    path: Path
    """Its top."""
    official: bool
    """One of the challenge's years: boxes are counted from 1, whatever stands in them."""
    annotations: Path
    """Folder that the XML files are below."""
    images: Path
    """Folder that the pictures are below."""

    @property
    def lists(self) -> Path:
        """Folder of the split lists."""
        return self.path / "ImageSets" / "Main"


def tree_at(path: Path, *, official: bool) -> VocFolder:
    """The tree with this top; its folders may be in lower case, and may be the top itself."""
    return VocFolder(
        path, official, child(path, "annotations"), child(path, "jpegimages", "images")
    )


def child(folder: Path, *names: str) -> Path:
    """The sub-folder of one of the names, in upper or lower case; else the folder itself."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name.lower() in names:
            return entry
    return folder


def find_folder(root: Path, name: str) -> VocFolder:
    """The tree that a set like `2007_trainval` or `train` belongs to.

    Raises:
        FileNotFoundError: with what was tried and the layout that is expected.
    """
    year = re.fullmatch(r"(\d{4})_\w+", name)
    if year:
        folder = f"VOC{year[1]}"
        tried = [root / folder, root / "VOCdevkit" / folder]
        tried += [root] if root.name == folder else []
        for path in tried:
            if (path / "Annotations").is_dir():
                return tree_at(path, official=True)
        raise FileNotFoundError(
            f"no {folder} at {' or '.join(str(path) for path in tried)}; expected\n"
            + LAYOUT.format(root=root, get=how_to_get("voc0712", root))
        )
    if not root.is_dir():
        raise FileNotFoundError(
            f"no dataset at {root}: no such folder; expected\n" + OWN_LAYOUT.format(root=root)
        )
    for inner in SPELLINGS.get(name, (name,)):
        path = root / inner
        if path.is_dir() and xml_names(path):
            return tree_at(path, official=False)
    tree = tree_at(root, official=False)
    if not xml_names(tree.annotations):
        raise FileNotFoundError(
            f"no dataset at {root}: no .xml in it; expected\n" + OWN_LAYOUT.format(root=root)
        )
    return tree


def split_folders(root: Path) -> List[str]:
    """Folders with annotations that are called after a split, in any case; in the order of
    `SPLIT_FOLDERS`.
    """
    found = [entry.name for entry in root.iterdir() if entry.name.lower() in SPLIT_FOLDERS]
    found.sort(key=lambda name: (SPLIT_FOLDERS.index(name.lower()), name))
    return [name for name in found if (root / name).is_dir() and xml_names(root / name)]


def inner_folders(folder: VocFolder) -> List[str]:
    """The same within a tree's `Annotations`."""
    return [] if folder.annotations == folder.path else split_folders(folder.annotations)


def xml_names(folder: Path) -> List[str]:
    """XML files below a folder, as paths without extension, in natural order."""
    found = []
    for parent, _, files in walk(folder):
        inside = parent.relative_to(folder)
        found += [
            (inside / file).as_posix()[: -len(".xml")]
            for file in files
            if file.lower().endswith(".xml") and not file.startswith(".")
        ]
    return sorted(found, key=natural_key)


class ImageIndex:
    """All pictures below a folder, by path and by name.

    Args:
        folder: where to look.
    """

    def __init__(self, folder: Path) -> None:
        self.by_path: Dict[str, str] = {}
        """Path without extension -> path."""
        self.by_stem: Dict[str, str] = {}
        """Name without folders and extension -> path."""
        for parent, _, files in walk(folder):
            inside = parent.relative_to(folder)
            for file in sorted(files):
                if is_image(file):
                    name = (inside / file).as_posix()
                    self.by_path.setdefault(name.rpartition(".")[0], name)
                    self.by_stem.setdefault(file.rpartition(".")[0], name)

    def find(self, xml_name: str, filename: Optional[str]) -> Optional[str]:
        """The picture of an annotation: of the same path, else of the same name, else what
        `<filename>` says, with or without extension, be it a Windows path.
        """
        said = (filename or "").strip().replace("\\", "/").rpartition("/")[2]
        stem = xml_name.rpartition("/")[2]
        found = self.by_path.get(xml_name) or self.by_stem.get(stem)
        return found or self.by_stem.get(without_extension(said)) or self.by_stem.get(said)


def set_members(
    folder: VocFolder, name: str, *, seed: int, validation: float, by_folder: bool
) -> List[str]:
    """Names (XML paths without extension) of a set, as listed; a name may come twice.

    Args:
        folder: the tree.
        name: `train`, `val`, ... without its year.
        seed: of the split that is drawn where there are no lists.
        validation: share of it that is "val".
        by_folder: the tree is this set's own.

    Raises:
        FileNotFoundError: no such list; the message names those that are there.
        ValueError: the list is empty.
    """
    path = folder.lists / f"{name}.txt"
    if path.is_file():
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        names = [without_extension(line.strip()) for line in lines if line.strip()]
        if not names:
            raise ValueError(f"{path} names no image: it is empty")
        return names
    everything = xml_names(folder.annotations)
    if by_folder or name == "all":
        return everything
    listed = sorted(path.stem for path in folder.lists.glob("*.txt") if "_" not in path.stem)
    if listed or folder.official:
        raise FileNotFoundError(
            f"no list {path}; there {'are' if listed else 'is no list at all'}: {', '.join(listed)}"
        )
    inner = inner_folders(folder)
    for one in SPELLINGS.get(name, (name,)):
        if one in inner:
            return [xml for xml in everything if xml.startswith(f"{one}/")]
    folders = split_folders(folder.path) or inner
    if folders:
        raise FileNotFoundError(
            f"no list {path} and no folder '{name}'; there {'are' if len(folders) > 1 else 'is'}"
            f" {', '.join(folders)}"
        )
    if name not in DRAWN:
        raise FileNotFoundError(
            f"no list {path} and no folder '{name}'; without lists the sets are {', '.join(DRAWN)}"
        )
    return draw(everything, name, seed, validation)


def without_extension(name: str) -> str:
    """`000001.jpg` -> `000001`; a dot within a name stays."""
    stem, dot, extension = name.rpartition(".")
    known = dot and (is_image(f"x.{extension}") or extension.lower() == "xml")
    return stem if known else name
