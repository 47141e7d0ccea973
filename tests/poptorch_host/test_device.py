"""When an executor holds its device, and what happens around a compilation (2.10)."""

from __future__ import annotations

import logging
from typing import Callable, List

import pytest
import torch
from torch import nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


# ---- 2.10: device life cycle -------------------------------------------------------------------


def test_attaching_follows_the_connection_type() -> None:
    x = torch.ones(1)
    always = poptorch.inferenceModel(nn.ReLU())
    assert not always.isAttachedToDevice()
    assert not always.isCompiled()
    always.compile(x)
    assert always.isAttachedToDevice()
    assert always.isCompiled()

    later = options()
    later.connectionType(poptorch.ConnectionType.OnDemand)
    on_demand = poptorch.inferenceModel(nn.ReLU(), later)
    on_demand.compile(x)
    assert not on_demand.isAttachedToDevice()
    on_demand(x)
    assert on_demand.isAttachedToDevice()


def test_detached_executors_attach_by_themselves() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match="Model has not been compiled"):
        executor.detachFromDevice()
    executor(torch.ones(1))
    with pytest.raises(poptorch.Error, match="Device is already attached"):
        executor.attachToDevice()
    executor.detachFromDevice()
    with pytest.raises(poptorch.Error, match="Device is not attached"):
        executor.detachFromDevice()
    executor(torch.ones(1))
    assert executor.isAttachedToDevice()
    executor.destroy()
    executor.destroy()
    assert not executor.isCompiled()
    assert not executor.isAttachedToDevice()


def test_an_offline_model_compiles_and_does_not_run() -> None:
    offline = poptorch.Options().useOfflineIpuTarget()
    executor = poptorch.inferenceModel(nn.ReLU(), offline)
    with pytest.raises(AssertionError, match=r"use model.compile\(inputs\) instead"):
        executor(torch.ones(1))
    executor.compile(torch.ones(1))
    assert executor.isCompiled()
    assert not executor.isAttachedToDevice()
    with pytest.raises(AssertionError, match="attach to an offline device"):
        executor.attachToDevice()


def test_compiling_twice_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    executor.compile(torch.ones(1))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        executor.compile(torch.ones(1))
    assert "already compiled" in caplog.text


def test_hooks_run_around_each_compilation() -> None:
    calls: List[str] = []
    handles = [
        poptorch.registerPreCompileHook(lambda: calls.append("before")),
        poptorch.registerPostCompileHook(lambda: calls.append("after")),
    ]
    executor = poptorch.inferenceModel(nn.ReLU())
    executor(torch.ones(1))
    executor(torch.ones(1))
    for handle in handles:
        handle.remove()
    assert calls == ["before", "after"]
