"""Which module serves as PopTorch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poplar_ops.runtime import IS_HOST, poptorch, resolve

WITHOUT_SDK = importlib.util.find_spec("poptorch") is None


def test_host_is_taken_on_request() -> None:
    assert resolve("host") == "poptorch_host"


def test_sdk_is_taken_on_request() -> None:
    assert resolve("sdk") == "poptorch"


@pytest.mark.skipif(not WITHOUT_SDK, reason="the Poplar SDK is installed here")
def test_host_is_taken_where_no_sdk_is_installed() -> None:
    assert resolve("") == "poptorch_host"
    assert poptorch.__name__ == "poptorch_host"
    assert IS_HOST


def test_a_misspelt_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be 'host' or 'sdk'.* got 'ipu'"):
        resolve("ipu")


def test_a_broken_sdk_is_not_replaced_in_silence(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Falling back would run on the CPU for a week; the SDK's own error has to stand.
    monkeypatch.delenv("DETECTORS_POPTORCH", raising=False)
    (tmp_path / "poptorch.py").write_text("raise ImportError('libpoplar.so: not found')\n")
    result = subprocess.run(
        [sys.executable, "-c", "import poplar_ops.runtime"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{repository}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "libpoplar.so: not found" in result.stderr
