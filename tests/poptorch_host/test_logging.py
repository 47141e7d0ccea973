"""The logger has PopTorch's name, levels and line format."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Union

import pytest

import poptorch_host as poptorch
from poptorch_host import _logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    level = poptorch.logger.level
    yield
    poptorch.logger.setLevel(level)
    _logging.set_max_repeat_logs(4)


@pytest.mark.parametrize(
    ("level", "number"),
    [("TRACE", 0), ("DEBUG", 1), ("INFO", 2), ("WARN", 3), ("ERR", 4), ("OFF", 6)],
)
def test_names_and_numbers_set_the_same_level(level: str, number: int) -> None:
    poptorch.setLogLevel(level)
    by_name = poptorch.logger.level
    poptorch.setLogLevel(number)
    assert poptorch.logger.level == by_name


def test_levels_are_ordered_and_off_hides_everything(capsys: pytest.CaptureFixture[str]) -> None:
    levels = []
    for number in (0, 1, 2, 3, 4, 6):
        poptorch.setLogLevel(number)
        levels.append(poptorch.logger.level)
    assert levels == sorted(set(levels))
    poptorch.logger.critical("nothing of this")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (5, "Invalid log level integer"),
        (
            "WARNING",
            "Unknown log level: WARNING. Valid values are DEBUG, ERR, INFO, OFF, TRACE and WARN",
        ),
    ],
)
def test_other_levels_are_refused(level: Union[int, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        poptorch.setLogLevel(level)


def test_a_line_has_time_name_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert poptorch.logger.name == "poptorch::python"  # 2.16
    poptorch.setLogLevel("INFO")
    poptorch.logger.info("compiled in %d s", 3)
    line = capsys.readouterr().err
    time, rest = line.split("] ", 1)
    assert rest == "[poptorch::python] [info] compiled in 3 s\n"
    hours, minutes, seconds = time.lstrip("[").split(":")
    assert len(hours) == len(minutes) == 2
    assert len(seconds) == len("12.345")


def test_repeats_are_cut_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    _logging.set_max_repeat_logs(2)
    for _ in range(5):
        poptorch.logger.warning("said before, and before")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith("(repeated: further lines are not shown)")
    _logging.set_max_repeat_logs(None)
    for _ in range(5):
        poptorch.logger.warning("said before, and before")
    assert len(capsys.readouterr().err.splitlines()) == 5


def imported(repository: Path, variables: Dict[str, str], code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(repository), **variables}
    return subprocess.run(
        [sys.executable, "-c", f"from poptorch_host import logger; {code}"],
        env=environment,
        cwd=str(repository),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        text=True,
    ).stdout


def test_environment_chooses_level_and_file(repository: Path, tmp_path: Path) -> None:
    destination = tmp_path / "poptorch.log"
    variables = {"POPTORCH_LOG_LEVEL": "DEBUG", "POPTORCH_LOG_DEST": str(destination)}
    output = imported(repository, variables, "logger.debug('kept'); print(logger.level)")
    assert output.strip() == str(logging.DEBUG)
    assert destination.read_text().rstrip().endswith("[debug] kept")
