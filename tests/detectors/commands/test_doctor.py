"""The doctor reports what is broken instead of breaking."""

from __future__ import annotations

import importlib.metadata
from typing import Dict

import pytest

from detectors.__main__ import main
from detectors.commands import doctor
from detectors.commands.doctor import Finding


def findings() -> Dict[str, Finding]:
    return {finding.what: finding for finding in doctor.examine()}


def test_everything_there_is_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "python",
        "torch",
        "torchvision",
        "device",
        "operators",
        "PopTorch",
        "ranks",
        "weights",
    ]
    assert code == int(any(line.startswith("!!") for line in lines))


def test_a_torchvision_of_another_release_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.metadata.version
    found = {"torch": "2.14.1", "torchvision": "0.28.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: found.get(name) or real(name))
    finding = findings()["torchvision"]
    assert not finding.fine
    assert "0.28.0 does not fit torch 2.14.1" in finding.text
    assert 'pip install "torchvision==0.29.*"' in finding.text
    assert main(["doctor"]) == 1
    assert "!!  torchvision" in capsys.readouterr().out


def test_no_torchvision_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert findings()["torchvision"].fine


def test_operators_that_are_not_built_are_said_to_be_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("poplar_ops.backend", lambda: "torch")
    assert "plain torch" in findings()["operators"].text


def test_a_check_that_raises_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("poplar_ops.backend", broken)
    finding = findings()["operators"]
    assert not finding.fine
    assert "libgomp" in finding.text


def test_an_unknown_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["docter"]) == 2
    assert "did you mean doctor?" in capsys.readouterr().err
    assert main(["doctor", "now"]) == 2
    assert main([]) == 2
