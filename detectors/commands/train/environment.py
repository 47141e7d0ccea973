"""What a run was made with: `command.txt` and `environment.txt` of its folder."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import List, Sequence

from detectors.commands.screen import versions

__all__ = ["describe", "git_state", "launcher", "note_command"]

PACKAGES = ("torch", "lightning", "numpy", "pillow", "omegaconf", "pycocotools", "detectors")
REPOSITORY = Path(__file__).resolve().parents[3]


def describe(device: str) -> str:
    """Versions, device and the state of the repository, one a line."""
    import torch

    lines = [
        f"python {platform.python_version()}",
        *(f"{name} {version}" for name, version in versions(*PACKAGES).items()),
        f"platform {platform.platform()}",
        f"device {device}",
        f"threads {torch.get_num_threads()} of {os.cpu_count()} cores",
        f"git {git_state(REPOSITORY)}",
    ]
    if device == "cuda":
        lines.append(f"gpu {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return "\n".join(lines) + "\n"


def git_state(folder: Path) -> str:
    """`9ffabcc, changed` or `9ffabcc`; says so where there is no repository or no git."""
    try:
        commit = git(folder, "rev-parse", "--short", "HEAD")
        changed = git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "not a repository, or no git here"
    return f"{commit}, changed" if changed else commit


def git(folder: Path, *words: str) -> str:
    command: List[str] = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def launcher(processes: int) -> str:
    """What starts so many."""
    if processes == 1:
        return "python train.py"
    return f"torchrun --nproc-per-node {processes} train.py"


def note_command(folder: Path, words: Sequence[str], processes: int = 1) -> None:
    """Append the command to `command.txt`: the run's first line began it, others resumed it."""
    line = " ".join([launcher(processes), *(shlex.quote(word) for word in words)])
    with open(folder / "command.txt", "a", encoding="utf-8") as file:
        file.write(line + "\n")
