"""Runs of train.py's main with a small detector on few pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_runs import TINY, Run, Train, run_train, write_recipe


@pytest.fixture
def run(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Run train.py's main in an empty folder, with the words as they are."""

    def call(*words: object) -> Run:
        return run_train(capsys, *words)

    return call


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe as a file."""
    return write_recipe(tmp_path_factory.mktemp("recipes") / "small.yaml", "generated", TINY)


@pytest.fixture
def tiny(run: Train, small: Path) -> Train:
    """Run train.py's main likewise, of the small recipe."""

    def call(*words: object) -> Run:
        return run(f"recipe={small}", *words)

    return call
