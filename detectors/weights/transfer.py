"""Brings one address into one file, from where an earlier attempt stopped."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import Callable, Dict, Optional, cast

Progress = Callable[[int, Optional[int]], None]
"""Called with the bytes so far and, where the server says it, the bytes in all."""

CHUNK = 1 << 18  # bytes between two calls of `progress`
TIMEOUT = 30.0  # seconds without a byte before the server counts as gone


def receive(url: str, part: Path, progress: Optional[Progress]) -> None:
    """Append to `part` what it lacks; start over where the server's file is another one by now."""
    tag = part.with_name(part.name + ".etag")
    done = part.stat().st_size if part.is_file() else 0
    headers: Dict[str, str] = {"User-Agent": "detectors"}
    if done and tag.is_file():
        headers.update({"Range": f"bytes={done}-", "If-Range": tag.read_text()})
    with _open(url, headers, tag) as response:
        resumed = getattr(response, "status", None) == 206  # a file has none on Python 3.8
        done = done if resumed else 0
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not resumed:
            tag.write_text(validator)
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        _require_space(part, total, done)
        with open(part, "ab" if resumed else "wb") as file:
            for chunk in iter(lambda: response.read(CHUNK), b""):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    if total is not None and done != total:
        raise ConnectionError(f"{done} of {total} bytes arrived; run it again to go on from there")
    if tag.is_file():
        tag.unlink()


def _open(url: str, headers: Dict[str, str], tag: Path) -> HTTPResponse:
    """The server's answer; asks for the whole file where it cannot give the rest."""
    try:
        request = urllib.request.Request(url, headers=headers)
        return cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT))
    except urllib.error.HTTPError as error:
        if error.code != 416 or not tag.is_file():  # range not satisfiable
            raise
        error.close()
        tag.unlink()
        return _open(url, {"User-Agent": headers["User-Agent"]}, tag)


def _require_space(part: Path, total: Optional[int], done: int) -> None:
    """Raise before the disk is full rather than at its end."""
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - done > free:
        raise RuntimeError(
            f"{part.parent} has {free / 1e6:.0f} MB free, the download needs"
            f" {(total - done) / 1e6:.0f} MB; set DETECTORS_CACHE to another disk"
        )
