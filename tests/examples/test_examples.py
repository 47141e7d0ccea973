"""The examples learn, run as a user runs them: unmodified PopTorch programs on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest

Run = Callable[..., str]


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Run:
    """Run an example in an empty folder; what it prints."""

    def run(*words: str) -> str:
        example, *arguments = words
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "poptorch_host", str(repository / "examples" / example)),
                *arguments,
            ],
            cwd=str(tmp_path),
            env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


def numbers(label: str, text: str) -> List[float]:
    """Every number that follows a label."""
    return [float(number) for number in re.findall(rf"{label}:? (\d+\.\d+)", text)]


def test_mnist_recognises_unseen_digits(run: Run) -> None:
    # 3 epochs of 100 updates; a tenth is chance.
    text = run("mnist.py", "--train-size", "1600", "--batch-size", "16", "--test-size", "320")
    losses = numbers("loss", text)
    assert losses == sorted(losses, reverse=True)
    assert numbers("accuracy on 320 unseen digits", text)[0] > 80


CNN = ["cnn.py", "--width", "8", "--batch-size", "4", "--test-size", "128"]


def test_cnn_validates_between_epochs_of_a_pipeline_with_replicas(run: Run) -> None:
    # Two epochs of 16 updates with 2 replicas of 8 micro-batches. An eighth is chance.
    text = run(*CNN, "--replicas", "2", "--epochs", "2", "--train-size", "1024")
    before, after = numbers("validation accuracy", text)
    assert after > before
    assert after > 40


def test_cnn_in_half_learns_shows_a_gradient_and_compiles_once(run: Run, tmp_path: Path) -> None:
    arguments = [*CNN, "--half", "--anchor", "--cache", "cache"]
    text = run(*arguments, "--epochs", "2", "--train-size", "1024")
    assert numbers("validation accuracy", text)[-1] > 80
    assert numbers("gradient", text)[-1] > 0
    compiled = sorted((tmp_path / "cache").iterdir())
    assert compiled
    run(*arguments, "--epochs", "1", "--train-size", "64")
    assert sorted((tmp_path / "cache").iterdir()) == compiled  # it found what was there


def test_cnn_runs_without_data(run: Run) -> None:
    assert "loss 0.000" in run(*CNN, "--synthetic", "--epochs", "1", "--train-size", "128")


def test_vit_finds_the_disc(run: Run) -> None:
    # A sixteenth is chance.
    text = run(
        *("vit.py", "--width", "32", "--layers-per-ipu", "1", "1", "1", "1"),
        *("--train-size", "1024", "--test-size", "256", "--workers", "1"),
    )
    assert numbers("accuracy on 256 unseen pictures", text)[0] > 70
