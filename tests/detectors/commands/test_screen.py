"""What went wrong on at most six lines, and the exit code that scripts can use."""

from __future__ import annotations

import errno
import importlib.metadata
import signal
from typing import Callable

import pytest
import torch
from torch._utils import ExceptionWrapper

from detectors.commands.screen import explain, guarded, torchvision_for
from detectors.experiment.atomic import DiskFullError
from detectors.experiment.interrupts import Terminated


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("wrong key"), 2),
        (TypeError("wrong type"), 2),
        (FileNotFoundError("no images"), 2),
        (RuntimeError("no connection"), 1),
        (NotImplementedError("later"), 1),
        (OSError(errno.EIO, "input/output error"), 1),
        (ImportError("no module", name="x"), 1),
        (MemoryError(), 1),
        (KeyError("ours"), 1),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (Terminated(signal.SIGINT), 130),
        (DiskFullError("disk full writing last.ckpt"), 1),
        (SystemExit(0), 0),
    ],
)
def test_every_end_has_its_exit_code(error: BaseException, code: int) -> None:
    assert guarded(raising(error)) == code


def test_a_run_that_ends_well_keeps_its_code() -> None:
    assert guarded(lambda: 0) == 0
    assert guarded(lambda: 1) == 1


def test_a_long_message_is_cut_to_six_lines(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(ValueError("\n".join(f"line {number}" for number in range(20)))))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[0] == "error: line 0"
    assert "--debug" in lines[-1]


def test_what_a_worker_raises_is_shown_without_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run() -> int:
        try:
            raise RuntimeError("a.jpg: truncated\ntry another")
        except RuntimeError:  # as a DataLoader's worker sends it, and its loader raises it again
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()  # type: ignore[no-untyped-call]
        return 0

    assert guarded(run) == 1
    assert capsys.readouterr().err == "error: a.jpg: truncated\ntry another\n"


def test_the_traceback_is_for_debug_only(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(ValueError("x")))
    assert "Traceback" not in capsys.readouterr().err
    guarded(raising(ValueError("x")), debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_our_own_fault_names_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(KeyError("x")))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: KeyError")
    assert "test_screen.py" in lines[1]


def test_torchvision_of_another_release_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"torch": "2.14.1+cpu", "torchvision": "0.28.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: found[name])
    text = explain(RuntimeError("operator torchvision::nms does not exist"))
    assert "torch 2.14.1+cpu does not fit torchvision 0.28.0" in text
    assert 'pip install "torch==2.14.1" "torchvision==0.29.*"' in text
    assert len(text.splitlines()) <= 6


@pytest.mark.parametrize(("torch_version", "wanted"), [("2.0.1+cpu", "0.15"), ("2.14.1", "0.29")])
def test_torch_and_torchvision_count_fifteen_apart(torch_version: str, wanted: str) -> None:
    assert torchvision_for(torch_version) == wanted
    installed = torchvision_for(torch.__version__)
    try:
        assert importlib.metadata.version("torchvision").startswith(f"{installed}.")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torchvision is not installed")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 TB"),
    ],
)
def test_out_of_memory_says_what_needs_less(error: Exception) -> None:
    text = explain(error)
    assert text.startswith("error: out of memory")
    assert "--batch" in text


def test_a_full_disk_names_the_file() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "out/detections.json.part")
    assert "disk full writing out/detections.json.part" in explain(error)


def test_an_sdk_that_is_not_enabled_is_told_apart_from_a_missing_package() -> None:
    sdk = explain(ImportError("libpopart.so: cannot open shared object file", name="poptorch"))
    assert "enable.sh" in sdk
    assert "--device cpu" in sdk
    assert "pip install omegaconf" in explain(ImportError("No module", name="omegaconf"))


def test_a_full_disk_is_told_in_the_words_of_who_met_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guarded(raising(DiskFullError("disk full writing last.ckpt (212 MB needed, 64 kB left)")))
    text = capsys.readouterr().err
    assert text == "error: disk full writing last.ckpt (212 MB needed, 64 kB left)\n"
