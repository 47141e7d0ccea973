"""The package has PopTorch's public names, and the small ones among them work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host.executor import compile_hooks

# 1.1 to 1.9
TEXT = """
    Options trainingModel inferenceModel DataLoader AsynchronousDataAccessor PoplarExecutor load
    ipuHardwareIsAvailable ipuHardwareVersion isRunningOnIpu setLogLevel ICustomArgParser
    registerCustomArgParser registerGeometricCustomArgParsers registerPreCompileHook
    registerPostCompileHook Attribute NameScope module_repr print createPoptorchError
    accessAttributes getIpuTensorId importPoptorchMetadataFromFile Error RecoverableError
    UnrecoverableError ConfigFileError profiling testing __version__
    OutputMode DataLoaderMode AutoStage ReductionType MeanReductionStrategy SharingStrategy
    ConnectionType SyncPattern HalfFloatCastingBehavior MatMulSerializationMode OverlapMode Liveness
    MultiConvPlanType CommGroupType VariableRetrievalMode TensorLocationSettings
    Block BeginBlock BlockFunction removeBlocks Stage Phase PipelinedExecution ShardedExecution
    SerialPhasedExecution ParallelPhasedExecution
    identity_loss custom_op recomputationCheckpoint set_available_memory MultiConv serializedMatMul
    nop ipu_print_tensor for_loop cond dynamic_slice dynamic_update ctc_beam_search_decoder CPU
    set_overlap_for_input set_overlap_for_output fps nearest
    optim options enums logger
"""
NAMES = TEXT.split()


def test_public_names_are_poptorch_s_and_no_others() -> None:
    assert set(poptorch.__all__) == set(NAMES)
    assert [name for name in NAMES if not hasattr(poptorch, name)] == []


def test_star_import_replaces_print_only() -> None:
    names: dict[str, object] = {}
    exec("from poptorch_host import *", names)
    assert names["print"] is poptorch.print


def test_private_names_that_programs_touch_are_there() -> None:
    # section 4
    core = poptorch.poptorch_core
    assert core.Error is poptorch.Error
    assert core.RecoverableError is poptorch.RecoverableError
    assert core.UnrecoverableError is poptorch.UnrecoverableError
    assert core.ipuHardwareIsAvailable() is False
    assert poptorch._logging.logger is poptorch.logger
    assert poptorch.options.ConfigFileError is poptorch.ConfigFileError
    assert poptorch.enums.OutputMode is poptorch.OutputMode
    assert poptorch.options._DistributedOptions().numProcesses == 1
    options = poptorch.Options()
    assert options._Popart.options == {}
    assert isinstance(options._execution_strategy, poptorch.PipelinedExecution)


def test_capture_is_seen_by_the_private_names() -> None:
    # section 4: false in plain PyTorch calls, true while forward is captured
    seen: List[bool] = []

    class Asks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(poptorch._impl.isDispatchTracing())
            seen.append(poptorch.poptorch_core.isCompilingWithDispatcher())
            return x + 1

    model = Asks()
    model(torch.ones(1))
    assert seen == [False, False]
    poptorch.inferenceModel(model).compile(torch.ones(1))
    assert seen == [False, False, True, True]


def test_an_executor_has_the_private_names_that_programs_touch() -> None:
    # section 4, 1.7
    model, options = nn.ReLU(), poptorch.Options()
    executor = poptorch.inferenceModel(model, options)
    assert executor._executable is None
    assert executor._user_model is model
    assert executor._model is not model
    assert executor._options is executor.options
    assert executor._options.toDict()["replication_factor"] == 1
    executor.compile(torch.ones(1))
    assert executor._executable is not None


def test_version_is_that_of_the_poptorch_it_follows() -> None:
    assert poptorch.__version__.startswith("3.4.0+")


def test_a_host_has_no_device() -> None:
    assert poptorch.ipuHardwareIsAvailable() is False
    assert poptorch.ipuHardwareIsAvailable(4) is False
    with pytest.raises(AssertionError, match="No IPU hardware available on this system"):
        poptorch.ipuHardwareVersion()
    assert poptorch.isRunningOnIpu() is False


def test_compile_hooks_run_in_order_until_removed() -> None:
    calls: List[str] = []
    first = poptorch.registerPreCompileHook(lambda: calls.append("before"))
    second = poptorch.registerPostCompileHook(lambda: calls.append("after"))
    for _ in range(2):
        compile_hooks.run_pre_compile_hooks()
        compile_hooks.run_post_compile_hooks()
        second.remove()
    first.remove()
    compile_hooks.run_pre_compile_hooks()
    assert calls == ["before", "after", "before"]


def test_compile_hooks_must_be_callable() -> None:
    with pytest.raises(RuntimeError, match="Pre-compile hook must be callable"):
        poptorch.registerPreCompileHook(3)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(RuntimeError, match="Post-compile hook must be callable"):
        poptorch.registerPostCompileHook(3)  # type: ignore[arg-type]  # the mistake under test


def test_allclose_compares_nested_results() -> None:
    one, near = torch.ones(2), torch.ones(2) + 1e-7
    assert poptorch.testing.allclose((one, [one]), (near, [near]))
    assert not poptorch.testing.allclose((one, one), (one,))
    assert not poptorch.testing.allclose([one], one)
    assert not poptorch.testing.allclose(one, one * 2)
    assert not poptorch.testing.allclose(one, torch.ones(3))


def test_profiling_channel_traces_nothing_without_its_library() -> None:
    channel = poptorch.profiling.Channel("mine")
    layer = nn.ReLU()
    channel.instrument(layer, "forward", "extra_repr")
    with channel.tracepoint("call"):
        assert layer(torch.tensor(-1.0)) == 0
    with pytest.raises(AttributeError, match="backward"):
        channel.instrument(layer, "backward")


@pytest.mark.skipif(
    sys.version_info < (3, 10), reason="Python 3.8 does not list its standard library"
)
def test_import_loads_only_torch_and_the_standard_library(repository: Path) -> None:
    code = (
        "import torch, sys; before = set(sys.modules); import poptorch_host;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - {'poptorch_host', 'torch'} - set(sys.stdlib_module_names)))"
    )
    output = subprocess.check_output([sys.executable, "-c", code], cwd=str(repository), text=True)
    assert output.strip() == "[]"
