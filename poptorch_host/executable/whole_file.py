"""Files that a reader never meets half of: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO, Callable


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Replace a file by what `write` puts into a stream; on failure nothing is left or changed.

    Several processes may do so at once: the last one's file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as stream:
            write(stream)
        os.replace(str(temporary), str(path))
    except BaseException:
        if temporary.exists():
            temporary.unlink()
        raise
