"""A file under its final name is whole, or is what it was."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from detectors.experiment.atomic import DiskFullError, copy_whole, disk_size, write_whole

FULL_DEVICE = "/dev/full"  # every write to it fails for want of space


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened for writing is a full device."""
    if not os.path.exists(FULL_DEVICE):
        pytest.skip(f"no {FULL_DEVICE} here")
    real = builtins.open

    def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return real(FULL_DEVICE if "w" in mode else path, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", opened)


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_says_how_much_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.touch()
    message = r"^disk full writing last\.ckpt \(200 kB needed, .* left\)$"
    with pytest.raises(DiskFullError, match=message) as caught:
        write_whole(path, b"x" * 200_000)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b""
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_quota_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def over(handle: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", over)
    message = r"^disk full writing last\.ckpt \(3 B needed; Disk quota exceeded\)$"
    with pytest.raises(DiskFullError, match=message):
        write_whole(tmp_path / "last.ckpt", b"one")
    assert not list(tmp_path.iterdir())


def test_an_interruption_while_writing_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "last.ckpt"
    write_whole(path, b"one")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.part").write_bytes(b"half")
    write_whole(tmp_path / "last.ckpt", b"one")
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_stays_when_its_source_is_replaced(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "this disk has no links")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    for content in (b"one", b"two"):
        write_whole(last, content)
        copy_whole(last, best)
        copy_whole(last, best)  # the same file already
        assert best.read_bytes() == content
    write_whole(last, b"three")
    assert best.read_bytes() == b"two"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (64_000, "64 kB"), (212_400_000, "212 MB")],
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert disk_size(count) == text
