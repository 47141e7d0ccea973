"""The runtime's own controls: settings, reports, memory, engines."""

from __future__ import annotations

import sys
from typing import Callable, List

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import host
from poptorch_host.capture.operators import is_supported, notes, supported
from poptorch_host.engine import memory
from poptorch_host.settings import Settings, from_environment

Configure = Callable[..., Settings]


def test_nothing_of_the_host_is_a_poptorch_name() -> None:
    assert not set(host.__all__) & set(poptorch.__all__)


def test_settings_are_checked() -> None:
    for name, value in (
        ("device", "ipu"),
        ("engine", "fast"),
        ("operators", "ignore"),
        ("schedule", "zigzag"),
        ("threads", 0),
    ):
        with pytest.raises(ValueError, match=f"host.configure: {name} must be"):
            host.configure(**{name: value})


def test_configure_returns_what_was_before(configure: Configure) -> None:
    before = configure(operators="report")
    assert before.operators == "refuse"
    assert configure(operators="refuse").operators == "report"


def test_environment_variables_are_settings() -> None:
    assert from_environment({}) == Settings()
    made = from_environment(
        {
            "POPTORCH_HOST_DEVICE": "cuda:1",
            "POPTORCH_HOST_SCHEDULE": "gpipe",
            "POPTORCH_HOST_ENGINE": "compile",
            "POPTORCH_HOST_OPERATORS": "report",
            "POPTORCH_HOST_THREADS": "3",
            "POPTORCH_HOST_KEEP_MEMORY": "0",
        }
    )
    assert made == Settings("cuda:1", "gpipe", "compile", "report", 3, False)
    for name, value in (("KEEP_MEMORY", "yes"), ("THREADS", "many"), ("DEVICE", "tpu")):
        with pytest.raises(ValueError, match=f"{name}|{name.lower()}"):
            from_environment({f"POPTORCH_HOST_{name}": value})


def test_threads_are_torchs(configure: Configure) -> None:
    count = torch.get_num_threads()
    try:
        configure(threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(count)


def test_operators_that_lower_to_nothing_poptorch_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="lowers_to must be an operator PopTorch takes"):
        host.register_operator("mine::op", lowers_to="aten::nonzero")


def test_the_operator_list_is_poptorchs() -> None:
    assert len(supported()) == 331
    for name in ("aten::add", "aten::add_", "aten::add", "aten::topk", "aten::_to_copy"):
        assert is_supported(name)
    for name in ("aten::nonzero", "aten::tril", "torchvision::nms", "aten::lerp"):
        assert not is_supported(name)
    assert notes()["aten::topk"].status == "limited"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_big_blocks_are_kept_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(memory._state, "done", False)
    with caplog.at_level("INFO", logger="poptorch::python"):
        assert memory.keep_big_blocks()
        assert memory.keep_big_blocks()
    assert caplog.text.count("malloc keeps blocks up to") == 1


@pytest.mark.parametrize("keep", [True, False])
def test_big_blocks_are_kept_by_setting(
    monkeypatch: pytest.MonkeyPatch, configure: Configure, keep: bool
) -> None:
    calls: List[str] = []
    monkeypatch.setattr(memory, "keep_big_blocks", lambda: calls.append("kept"))
    configure(keep_memory=keep)
    poptorch.inferenceModel(nn.ReLU()).compile(torch.ones(1))
    assert calls == ["kept"] * keep


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_models_run_on_cuda(configure: Configure) -> None:
    configure(device="cuda")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    x = torch.rand(2, 3, 8, 8)
    result = poptorch.inferenceModel(model)(x)
    assert result.device.type == "cpu"
    torch.testing.assert_close(result, model(x).detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(torch.__version__ < "2.4", reason="needs torch 2.4's compiler")
def test_the_compile_engine_runs_what_torch_compile_makes(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: List[nn.Module] = []

    def compile_module(module: nn.Module, dynamic: bool) -> Callable[[torch.Tensor], object]:
        compiled.append(module)
        return lambda x: module(x) + 1

    monkeypatch.setattr(torch, "compile", compile_module)
    configure(engine="compile")
    assert poptorch.inferenceModel(nn.ReLU())(torch.ones(1)).tolist() == [2.0]
    assert len(compiled) == 1


def test_the_compile_engine_says_what_it_needs(configure: Configure) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version >= (2, 4):
        pytest.skip("this torch has what it needs")
    configure(engine="compile")
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match=r"needs torch 2.4 or later"):
        executor(torch.ones(1))
    assert not executor.isCompiled()
