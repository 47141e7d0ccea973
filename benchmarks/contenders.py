"""Contenders of a benchmark: processes that run when they are asked, and answer in JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence


@contextlib.contextmanager
def started(
    name: str, words: Sequence[str], variables: Optional[Dict[str, str]] = None
) -> Iterator[Callable[[], Any]]:
    """Start a contender; yields a function that makes it run once and returns its answer.

    Args:
        name: what an error calls it.
        words: its command. It reads a line for each run, and writes a line of JSON.
        variables: of its environment, beside ours; packages of this repository are found.

    Raises:
        RuntimeError: by the function, when the contender has ended.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": path}
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, **(variables or {})},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def ask() -> Any:
        requests.write("go\n")
        requests.flush()
        answer = answers.readline()
        if not answer:
            raise RuntimeError(f"{name} ended with exit code {process.wait()}; its words are above")
        return json.loads(answer)

    try:
        yield ask
    finally:
        with contextlib.suppress(BrokenPipeError):
            requests.close()
        process.wait()
        answers.close()
