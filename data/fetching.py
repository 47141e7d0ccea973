"""One file from the first of several servers that has it: resumed where it stopped, checked at the
end.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple

__all__ = ["fetch", "md5_of"]

Report = Callable[[int, int], None]
"""(bytes so far, bytes in all or 0 where the server does not say)."""

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte
ATTEMPTS = 5  # at one server, each from where the last stopped


def fetch(urls: Sequence[str], path: Path, md5: str, report: Report) -> None:
    """Download a file unless it is there already.

    Bytes go to `NAME.part`, which a later call continues, and which takes its name when its
    checksum is right.

    Args:
        urls: of the same file, in the order to try.
        path: where it goes.
        md5: its checksum in hexadecimal; empty where none is published.
        report: called with the progress.

    Raises:
        RuntimeError: no server gave the file; the message has each one's reason.
    """
    if path.exists() and (not md5 or md5_of(path) == md5):
        return
    part = path.with_name(path.name + ".part")
    reasons: List[str] = []
    for url in urls:
        reason = from_server(url, part, report)
        if not reason and md5:
            found = md5_of(part)
            if found != md5:
                part.unlink()  # not continued: which bytes are wrong is not known
                reason = f"its MD5 is {found}, not {md5}"
        if not reason:
            os.replace(part, path)
            return
        reasons.append(f"{url}: {reason}")
    raise RuntimeError(f"{path.name} could not be downloaded:\n  " + "\n  ".join(reasons))


def from_server(url: str, part: Path, report: Report) -> str:
    """Bring `part` to its full length; returns why not, or nothing."""
    reason = ""
    for _ in range(ATTEMPTS):
        before = length(part)
        try:
            if transfer(url, part, report):
                return ""
            reason = f"the connection ended at byte {length(part)}"
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) == 28:  # ENOSPC: another server has no more room
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if length(part) == before:
            return reason
    return reason


def length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def transfer(url: str, part: Path, report: Report) -> bool:
    """Append what is missing; whether nothing is, after that."""
    have = length(part)
    request = urllib.request.Request(url, headers={"User-Agent": "python -m data.download"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # nothing after byte `have`: it was all there
                return True
            raise
    with reply:
        start, total = extent(reply, have)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while True:
                block = reply.read(BLOCK)
                if not block:
                    break
                file.write(block)
                report(file.tell(), total)
            return total == 0 or file.tell() >= total


def extent(reply: Any, have: int) -> Tuple[int, int]:
    """Where a reply's first byte belongs, and how long the file is (0: not said)."""
    content = int(reply.headers.get("Content-Length") or 0)
    if reply.status != 206:
        return 0, content
    total = (reply.headers.get("Content-Range") or "").rpartition("/")[2]
    return have, int(total) if total.isdecimal() else have + content


def md5_of(path: Path) -> str:
    """A file's MD5 in hexadecimal: what both datasets publish; it finds damage, not malice."""
    digest = hashlib.md5()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free
