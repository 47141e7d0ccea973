"""Which machine runs the model; what was asked for is never replaced by something slower."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, Optional

import pytest
import torch

from detectors.commands.infer.device import calm_threads, choose_device


@pytest.fixture
def _sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the Poplar SDK installed."""
    real = importlib.util.find_spec

    def find_spec(name: str, package: Optional[str] = None) -> Any:
        return object() if name == "poptorch" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.delenv("DETECTORS_POPTORCH", raising=False)


def environment(monkeypatch: pytest.MonkeyPatch, cuda: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)


def test_auto_takes_cuda_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, cuda=True)
    assert choose_device("auto") == "cuda"
    environment(monkeypatch, cuda=False)
    assert choose_device("auto") == "cpu"


@pytest.mark.usefixtures("_sdk")
def test_auto_takes_the_ipu_where_the_sdk_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, cuda=True)
    assert choose_device("auto") == "ipu"


@pytest.mark.usefixtures("_sdk")
def test_another_device_runs_on_the_host_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == "cpu"
    assert os.environ["DETECTORS_POPTORCH"] == "host"
    monkeypatch.delenv("DETECTORS_POPTORCH")


def test_no_cuda_and_no_sdk_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, cuda=False)
    with pytest.raises(RuntimeError, match="finds no CUDA device"):
        choose_device("cuda")
    with pytest.raises(RuntimeError, match="poptorch is not installed"):
        choose_device("ipu")


def test_threads_sleep_while_they_wait_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    calm_threads()
    assert os.environ.pop("OMP_WAIT_POLICY") == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    calm_threads()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
