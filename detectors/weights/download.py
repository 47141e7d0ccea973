"""Downloads published checkpoints into a cache, once: resumable, checked, renamed when complete.

A file arrives as `<name>.part` and is renamed when it is complete and its sha256 is right; the
sha256 is kept in `<name>.sha256` (the form `sha256sum -c` reads) and compared at each later use.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import urllib.error
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Iterator, Optional

from detectors.weights.known import find_known
from detectors.weights.transfer import Progress, receive

try:
    import fcntl
except ImportError:  # Windows: two downloads at once are then not kept apart
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("detectors.weights")


@dataclass(frozen=True)
class Fetched:
    """A file in the cache and how it was checked."""

    path: Path
    """Where it lies."""
    sha256: str
    """Of the whole file, computed just now."""
    check: str
    """What the hash was compared with, in words."""
    downloaded: bool
    """False if it was there already and no network was touched."""


def cache_folder() -> Path:
    """`$DETECTORS_CACHE`, by default `~/.cache/detectors`."""
    return Path(os.environ.get("DETECTORS_CACHE") or "~/.cache/detectors").expanduser()


def fetch(name: str, *, cache: Optional[Path] = None, progress: Optional[Progress] = None) -> Path:
    """The published checkpoint of a model, downloaded at first use.

    Args:
        name: a model (`d2`: effdet's file) or a row of `known.KNOWN` (`automl_efficientdet_d2`).
        cache: the folder to keep it in; `cache_folder()` by default.
        progress: called while bytes arrive.

    Raises:
        ValueError: no such checkpoint is known.
        RuntimeError: it cannot be downloaded or its hash is wrong; says what to do by hand.
    """
    key, known = find_known(name)
    folder = (cache or cache_folder()) / known.origin
    fetched = fetch_file(known.url, folder, known.hash_prefix, progress)
    unproved = fetched.downloaded and known.hash_prefix is None
    log.log(
        logging.WARNING if unproved else logging.INFO,
        "weights %s: %s, sha256 %s: %s",
        key,
        fetched.path,
        fetched.sha256,
        fetched.check,
    )
    return fetched.path


def fetch_file(
    url: str, folder: Path, hash_prefix: Optional[str], progress: Optional[Progress] = None
) -> Fetched:
    """One address as a file in a folder, downloaded if it is not there, checked in either case.

    Args:
        url: http, https or file.
        folder: made if absent.
        hash_prefix: the published start of the sha256; None if nothing is published.
        progress: called while bytes arrive.

    Raises:
        RuntimeError: no connection, a server's refusal, too few bytes, no space, a wrong hash.
    """
    path = folder / url.rsplit("/", 1)[-1]
    if path.is_file():
        return _check(path, url, hash_prefix)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(path.with_name(path.name + ".lock")):
        if path.is_file():  # another process was faster
            return _check(path, url, hash_prefix)
        part = path.with_name(path.name + ".part")
        _download(url, part, path, hash_prefix, progress)
        sha256 = file_sha256(part)
        if hash_prefix is not None and not sha256.startswith(hash_prefix):
            part.unlink()
            raise RuntimeError(
                f"{url} arrived with sha256 {sha256}, its name promises {hash_prefix}…;"
                " it was removed; try again, and do not use the file if it happens twice"
            )
        _record(path, sha256)
        os.replace(part, path)
    return Fetched(path, sha256, _words(hash_prefix, first=True), downloaded=True)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _check(path: Path, url: str, hash_prefix: Optional[str]) -> Fetched:
    """A file that is there already: compare it with its name and with its record."""
    sha256 = file_sha256(path)
    recorded = _recorded(path)
    expected = recorded or hash_prefix or sha256
    if not sha256.startswith(expected) or not sha256.startswith(hash_prefix or ""):
        raise RuntimeError(
            f"{path} has sha256 {sha256}, expected {expected}…: it changed or is damaged;"
            f" remove it to download it again from {url}"
        )
    if recorded is None:
        _record(path, sha256)
    return Fetched(path, sha256, _words(hash_prefix, first=recorded is None), downloaded=False)


def _words(hash_prefix: Optional[str], first: bool) -> str:
    """How the hash was checked."""
    if hash_prefix is not None:
        return f"sha256 starts with {hash_prefix} as published"
    if first:
        return "no hash is published; sha256 recorded now and compared from here on"
    return "no hash is published; sha256 as recorded at first download"


def _recorded(path: Path) -> Optional[str]:
    record = path.with_name(path.name + ".sha256")
    return record.read_text().split()[0] if record.is_file() else None


def _record(path: Path, sha256: str) -> None:
    record = path.with_name(path.name + ".sha256")
    new = record.with_name(record.name + ".part")
    new.write_text(f"{sha256}  {path.name}\n")
    os.replace(new, record)


def _download(
    url: str, part: Path, path: Path, hash_prefix: Optional[str], progress: Optional[Progress]
) -> None:
    """Bring `part` to its full length, from where an earlier attempt stopped."""
    try:
        receive(url, part, progress)
    except urllib.error.HTTPError as error:
        error.close()
        raise RuntimeError(_by_hand(f"the server says {error}", url, path, hash_prefix)) from None
    except (OSError, HTTPException) as error:
        reason = str(error)
        if isinstance(error, urllib.error.URLError):
            reason = f"no connection ({error.reason})"
        raise RuntimeError(_by_hand(reason, url, path, hash_prefix)) from None


def _by_hand(reason: str, url: str, path: Path, hash_prefix: Optional[str]) -> str:
    """What happened and how to do without the network."""
    expected = f"{hash_prefix}…" if hash_prefix else "not published"
    return (
        f"cannot download weights: {reason}\n  url     {url}\n  sha256  {expected}\n"
        f"  put it  {path}"
    )


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold a lock file, so that two processes do not write one `.part`."""
    with open(lock, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
