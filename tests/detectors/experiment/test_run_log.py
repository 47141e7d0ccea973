"""run.log has the command, what was logged and the traceback."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from detectors.experiment.run_log import run_log


def test_a_traceback_goes_to_the_log_and_on(tmp_path: Path) -> None:
    def fail() -> None:
        with run_log(tmp_path):
            logging.getLogger("detectors.weights").info("sha256 abc")
            logging.getLogger("data.datamodule").warning("cannot read 7.jpg")
            raise KeyError("missing")

    with pytest.raises(KeyError):
        fail()
    text = (tmp_path / "run.log").read_text()
    assert "command:" in text
    assert "sha256 abc" in text
    assert "cannot read 7.jpg" in text
    assert "Traceback (most recent call last)" in text


def test_nothing_is_logged_there_afterwards(tmp_path: Path) -> None:
    with run_log(tmp_path):
        pass
    before = (tmp_path / "run.log").read_text()
    logging.getLogger("detectors").error("later")
    assert (tmp_path / "run.log").read_text() == before
