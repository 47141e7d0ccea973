"""A file under its final name is whole, whatever happens while it is written.

Bytes go into a hidden file beside it, are forced to the disk, and take the name in one step.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Union

__all__ = ["DiskFullError", "copy_whole", "disk_size", "write_whole"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no space for this user, no files of this size for this user."""


class DiskFullError(OSError):
    """There was no room for a file; its text is the message alone, without an error number."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOSPC, message)
        self.message = message

    def __str__(self) -> str:
        return self.message


def disk_size(count: int) -> str:
    """Bytes as a person reads them.

    >>> disk_size(64_000), disk_size(212_400_000)
    ('64 kB', '212 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"


def write_whole(path: Path, content: Union[bytes, memoryview]) -> None:
    """Put `content` into `path`: all of it, or what was there before stays.

    Raises:
        DiskFullError: the message says how much was needed and how much was left.
    """
    with replacing(path, len(content)) as part, open(part, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def copy_whole(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` is now, by a second name where the disk has such.

    Whoever replaces `source` later, as `write_whole` does, leaves `target` as it is.

    Raises:
        DiskFullError: as `write_whole`.
    """
    with replacing(target, source.stat().st_size) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
            with open(part, "rb+") as file:
                os.fsync(file.fileno())


@contextmanager
def replacing(path: Path, size: int) -> Iterator[Path]:
    """A name to write to, which becomes `path` if all goes well and disappears if not."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # left by a process that was killed
    try:
        yield part
        os.replace(part, path)
        force_names(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno not in FULL:
            raise
        left = f", {disk_size(shutil.disk_usage(path.parent).free)} left"
        reason = left if error.errno == errno.ENOSPC else f"; {error.strerror}"
        raise DiskFullError(
            f"disk full writing {path.name} ({disk_size(size)} needed{reason})"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def force_names(folder: Path) -> None:
    """Make sure that a renaming is on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
