"""Pictures of files, folders, globs and lists of paths; no labels."""

from __future__ import annotations

import difflib
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Sequence, Set, Tuple, Union

from data.reading import read_image
from data.sample import Sample

__all__ = [
    "EXTENSIONS",
    "ImageFile",
    "ImageFolder",
    "find_images",
    "image_ids",
    "is_image",
    "natural_key",
    "walk",
]

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif")


@dataclass(frozen=True)
class ImageFile:
    """A picture on disk and what it is called in the results."""

    path: Path
    """Where to read it."""
    name: str
    """Path below the folder or glob it came from, parts joined by '/'; unique."""


class ImageFolder:
    """Pictures by index, read when asked for.

    `dataset[i]` raises `data.reading.UnreadableImageError` for a file that cannot be decoded.
    """

    def __init__(self, files: Sequence[ImageFile]) -> None:
        self.files = files
        self.names = [file.name for file in files]
        self.image_ids = image_ids(self.names)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        return Sample(read_image(file.path), file.name, self.image_ids[index])


def find_images(
    paths: Iterable[str], *, listed: Iterable[str] = (), recursive: bool = False
) -> List[ImageFile]:
    """The pictures that paths name, in the order given and natural order within a folder or glob.

    A file is taken whatever its extension; a folder gives its files with one of `EXTENSIONS`. A
    file that is named twice counts once.

    Args:
        paths: files, folders or glob patterns (`**` goes into sub-folders).
        listed: the same, from a list of paths: a relative path is the file's name in the results.
        recursive: also take the folders' sub-folders.

    Raises:
        FileNotFoundError: a path does not exist, or a folder or glob holds no pictures. The message
            says what was
            looked for.
    """
    found: Dict[Path, str] = {}
    for path in paths:
        for file, name in expand(path, recursive):
            found.setdefault(Path(os.path.abspath(file)), name)
    for path in listed:
        inside = not os.path.isabs(path) and ".." not in Path(path).parts
        for file, name in expand(path, recursive):
            found.setdefault(Path(os.path.abspath(file)), file.as_posix() if inside else name)
    return [ImageFile(path, name) for path, name in with_unique_names(found)]


def expand(text: str, recursive: bool) -> Iterator[Tuple[Path, str]]:
    """The files of one argument and their names."""
    path = Path(text)
    if path.is_dir():
        yield from expand_folder(path, recursive)
    elif path.exists():
        yield path, path.name
    elif glob.has_magic(text):
        base = Path(text[: glob_root_length(text)] or ".")
        files = [Path(match) for match in sorted(glob.glob(text, recursive=True), key=natural_key)]
        files = [file for file in files if file.is_file() and is_image(file.name)]
        if not files:
            raise FileNotFoundError(f"no images match {text} (looked for {' '.join(EXTENSIONS)})")
        for file in files:
            yield file, file.relative_to(base).as_posix()
    else:
        raise FileNotFoundError(missing(path))


def glob_root_length(text: str) -> int:
    """How much of a pattern is a plain folder: up to the last `/` before the first of `*?[`."""
    first = re.search(r"[*?[]", text)
    assert first is not None, text
    return text.rfind("/", 0, first.start()) + 1


def expand_folder(folder: Path, recursive: bool) -> Iterator[Tuple[Path, str]]:
    names: List[str] = []
    sub_folders = 0
    for parent, folders, files in walk(folder):
        inside = parent.relative_to(folder)
        names += [(inside / file).as_posix() for file in files if is_image(file)]
        sub_folders += len(folders)
        if not recursive:
            break
    if not names:
        hint = (
            f"; {sub_folders} sub-folders: use --recursive" if sub_folders and not recursive else ""
        )
        raise FileNotFoundError(f"no images in {folder}/ (looked for {' '.join(EXTENSIONS)}{hint})")
    for name in sorted(names, key=natural_key):
        yield folder / name, name


def walk(folder: Path) -> Iterator[Tuple[Path, List[str], List[str]]]:
    """`os.walk` that follows links, but none that leads back to a folder that it lies in.

    Yields:
        A folder, its sub-folders by name and its files.
    """
    above = {os.path.realpath(folder)}
    inside: Dict[str, Set[str]] = {str(folder): above}
    for parent, folders, files in os.walk(folder, followlinks=True):
        above = inside.pop(parent)
        real = {name: os.path.realpath(os.path.join(parent, name)) for name in folders}
        folders[:] = sorted(name for name in folders if real[name] not in above)
        for name in folders:
            inside[os.path.join(parent, name)] = above | {real[name]}
        yield Path(parent), folders, files


def missing(path: Path) -> str:
    """What to say of a path that does not exist: the part of it that does, and names like the one
    asked for.
    """
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    near = difflib.get_close_matches(path.name, [entry.name for entry in os.scandir(parent)], n=3)
    hint = f"; did you mean {' or '.join(str(parent / name) for name in near)}?" if near else ""
    return f"no such file or folder: {path}{hint}"


def is_image(name: str) -> bool:
    """By its extension, in any case; hidden files (`._x.jpg` of other systems) are left out."""
    return not name.startswith(".") and name.rpartition(".")[2].lower() in EXTENSIONS


def natural_key(name: str) -> List[Union[Tuple[int, int, str], Tuple[int, str, str]]]:
    """Sorts `img2` before `img10`."""
    parts = re.split(r"(\d+)", name)
    return [
        (0, int(part), part) if part.isdecimal() else (1, part.lower(), part)
        for part in parts
        if part
    ]


def with_unique_names(found: Dict[Path, str]) -> Iterator[Tuple[Path, str]]:
    """Adds parent folders to names that different files share, until they differ."""
    names = dict(found)
    while True:
        taken: Dict[str, List[Path]] = {}
        for path, name in names.items():
            taken.setdefault(name, []).append(path)
        shared = [path for paths in taken.values() if len(paths) > 1 for path in paths]
        if not shared:
            return iter(names.items())
        for path in shared:
            depth = names[path].count("/") + 2
            names[path] = "/".join(path.parts[-depth:]).lstrip("/")


def image_ids(names: Sequence[str]) -> List[int]:
    """COCO's numbers where every file is named by its own (`000000005001.jpg` -> 5001), else 1, 2,
    3, ...
    """
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
    if all(stem.isdecimal() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(names) + 1))
