"""`./dev` answers a wrong call with words and exit status 2."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Sequence, Tuple

import pytest


def dev(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(repository / "dev"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_dev_without_a_command_prints_its_usage(repository: Path) -> None:
    result = dev(repository)
    assert result.returncode == 0
    assert "demo" in result.stdout
    assert "check-sdk" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("tset",), "no command 'tset'"), (("test", "--tier", "ipu"), "--tier takes modern or sdk")],
)
def test_dev_refuses_what_it_does_not_know(
    repository: Path, arguments: Tuple[str, ...], words: str
) -> None:
    result = dev(repository, *arguments)
    assert result.returncode == 2
    assert words in result.stderr


def test_ci_is_dev_ci_and_nothing_else(repository: Path) -> None:
    lines = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands: Sequence[str] = [line for line in lines if line and not line.startswith("#")]
    assert commands == ['exec "$(dirname "${BASH_SOURCE[0]}")/../dev" ci']
