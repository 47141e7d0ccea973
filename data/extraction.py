"""Archives into a folder, and nowhere else: no path out of it, no links, no devices."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Iterator, Optional, Tuple

__all__ = ["extract"]

Member = Tuple[str, int, Optional[IO[bytes]]]
"""Path in the archive, bytes, content; no content where it is a folder."""


def extract(archive: Path, folder: Path) -> int:
    """Unpack a .tar (compressed or not) or a .zip; files that are there in full are left as they
    are.

    Permissions and owners of the archive are not taken over.

    Returns:
        How many files the archive has.

    Raises:
        ValueError: a member that would leave the folder, or is neither file nor folder; or no
            archive.
    """
    count = 0
    root = folder.resolve()
    with members(archive) as listed:
        for name, size, content in listed:
            path = inside(root, name, archive)
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            count += 1
            if path.is_file() and path.stat().st_size == size:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            with content, part.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            os.replace(part, path)
    return count


def inside(root: Path, name: str, archive: Path) -> Path:
    """Where a member goes."""
    pure = PurePosixPath(name.replace("\\", "/"))
    path = root.joinpath(*pure.parts)
    bad = pure.is_absolute() or ".." in pure.parts or ":" in (pure.parts or ("",))[0]
    if bad or root not in (path.resolve(), *path.resolve().parents):
        raise ValueError(f"{archive.name} holds '{name}', which would land outside {root}")
    return path


@contextmanager
def members(archive: Path) -> Iterator[Iterator[Member]]:
    """What an archive holds, one after another."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield zip_members(file, archive)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield tar_members(tar, archive)
    else:
        raise ValueError(f"{archive} is neither a tar nor a zip archive")


def zip_members(file: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for member in file.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{archive.name} holds '{member.filename}', which is no plain file")
        yield member.filename, member.file_size, None if member.is_dir() else file.open(member)


def tar_members(tar: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    for member in tar:
        if not (member.isfile() or member.isdir()):
            raise ValueError(f"{archive.name} holds '{member.name}', which is no plain file")
        yield member.name, member.size, None if member.isdir() else tar.extractfile(member)
