"""When an executor holds its device, and what happens around a compilation (2.10)."""

from __future__ import annotations

import logging
import time
from typing import List

import pytest
import torch
from torch import nn

import poptorch_host as poptorch


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


def test_one_executor_holds_a_device_with_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POPTORCH_WAIT_FOR_IPU", raising=False)
    x = torch.ones(2)
    first = poptorch.inferenceModel(nn.ReLU(), options(useIpuId=11))
    second = poptorch.inferenceModel(nn.ReLU(), options(useIpuId=11, replicationFactor=2))
    other = poptorch.inferenceModel(nn.ReLU(), options(useIpuId=12))
    first(x)
    other(x)
    with pytest.raises(poptorch.Error, match=r"Failed to acquire 2 IPU\(s\).*useIpuId\(11\)"):
        second(x)
    assert not second.isAttachedToDevice()
    first.detachFromDevice()
    second(x)
    with pytest.raises(poptorch.Error, match=r"Failed to acquire 1 IPU\(s\)"):
        first.attachToDevice()
    second.destroy()
    first.attachToDevice()
    del first
    second(x)  # who is gone holds nothing


def test_waiting_for_a_device_ends_when_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2.10: POPTORCH_WAIT_FOR_IPU
    monkeypatch.setenv("POPTORCH_WAIT_FOR_IPU", "1")
    x = torch.ones(1)
    first = poptorch.inferenceModel(nn.ReLU(), options(useIpuId=13))
    first(x)
    waited: List[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            first.detachFromDevice()

    monkeypatch.setattr(time, "sleep", sleep)
    second = poptorch.inferenceModel(nn.ReLU(), options(useIpuId=13))
    assert second(x).item() == 1.0
    assert len(waited) == 3


def test_host_weights_changed_while_detached_are_taken() -> None:
    # 2.5: attaching uploads
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    executor = poptorch.inferenceModel(model)
    executor(torch.ones(1, 1))
    executor.detachFromDevice()
    nn.init.constant_(model.weight, 3.0)
    assert executor(torch.ones(1, 1)).item() == 3.0


def test_random_numbers_go_on_after_the_device_was_lent() -> None:
    # 2.10: detaching keeps the random numbers' state
    def run(lend: bool) -> List[List[float]]:
        executor = poptorch.inferenceModel(nn.Dropout(0.5), options(randomSeed=3))
        found = []
        for _ in range(3):
            found.append(executor(torch.ones(16)).tolist())
            if lend:
                executor.detachFromDevice()
        return found

    assert run(True) == run(False)


@pytest.mark.parametrize("name", ["attachToDevice", "detachFromDevice", "copyWeightsToDevice"])
def test_after_destroy_there_is_no_executable(name: str) -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    executor(torch.ones(1))
    executor.destroy()
    words = r"Model has not been compiled or has been destroyed\."
    with pytest.raises(poptorch.Error, match=words):
        getattr(executor, name)()


def test_hooks_must_be_callable_and_can_be_removed() -> None:
    # 1.1
    with pytest.raises(RuntimeError, match="Pre-compile hook must be callable"):
        poptorch.registerPreCompileHook(3)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="Post-compile hook must be callable"):
        poptorch.registerPostCompileHook(None)  # type: ignore[arg-type]


def test_hooks_stand_around_what_is_compiled() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    seen: List[bool] = []
    handles = [
        poptorch.registerPreCompileHook(lambda: seen.append(executor.isCompiled())),
        poptorch.registerPostCompileHook(lambda: seen.append(executor.isCompiled())),
    ]
    try:
        executor.compile(torch.ones(1))
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [False, True]
    executor.destroy()
    executor.compile(torch.ones(1))
    assert seen == [False, True]
