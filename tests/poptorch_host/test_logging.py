"""The logger has PopTorch's name, levels and line format (2.16)."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Union

import pytest
import torch

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


def test_levels_are_in_lower_case_and_coloured_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        for number, level in ((30, "warning"), (40, "error"), (50, "critical")):
            poptorch.logger.log(number, "said %s %d", level, coloured)
            line = stream.getvalue().splitlines()[-1]
            assert ("\x1b[" in line) is coloured
            shown = re.sub("\x1b.*?m", "", line)
            assert shown.endswith(f"[poptorch::python] [{level}] said {level} {coloured:d}")


def test_an_executor_applies_its_limit_of_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    # 1.3: maxRepeatLogs
    options = poptorch.Options().maxRepeatLogs(1)
    poptorch.inferenceModel(torch.nn.ReLU(), options).compile(torch.ones(1))
    capsys.readouterr()
    for _ in range(4):
        poptorch.logger.warning("repeated by a program")
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith("repeated by a program")
    assert last.endswith("(repeated: further lines are not shown)")


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


def test_the_standard_output_is_a_destination(repository: Path) -> None:
    code = "import os, sys; sys.stderr.close(); logger.warning('said'); logger.info('not said');"
    code += "print(os.environ['RDMAV_FORK_SAFE'])"
    lines = imported(repository, {"POPTORCH_LOG_DEST": "stdout"}, code).splitlines()
    assert lines[0].endswith("[poptorch::python] [warning] said")  # default level WARN
    assert lines[1:] == ["1"]


def test_an_unknown_level_in_the_environment_is_refused(repository: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        imported(repository, {"POPTORCH_LOG_LEVEL": "LOUD"}, "")
    assert "Unknown log level: LOUD. Valid values are DEBUG, ERR, INFO" in raised.value.stdout
