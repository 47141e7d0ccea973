"""An executor's arguments and options are checked with PopTorch's classes and words."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import checks


def options(di: int = 1, r: int = 1, g: int = 1, ga: int = 1) -> poptorch.Options:
    made = poptorch.Options().deviceIterations(di).replicationFactor(r)
    made.inputReplicaGrouping(g, poptorch.CommGroupType.Consecutive)
    made.Training.gradientAccumulation(ga)
    return made


@pytest.mark.parametrize(
    ("made", "training", "shape", "size"),
    [
        (options(), False, (8, 3), 8),
        (options(di=2), False, (8, 3), 4),
        (options(di=2, r=2), False, (8,), 2),
        (options(di=2, r=2, g=2), False, (8,), 4),  # 2.1: a group shares its blocks
        (options(ga=4), True, (8, 3), 2),
        (options(di=2, r=2, ga=2), True, (8, 3), 1),
        (options(), False, (), None),
    ],
)
def test_micro_batch_is_the_batch_over_all_factors(
    made: poptorch.Options, training: bool, shape: Any, size: Any
) -> None:
    assert checks.micro_batch_size(torch.Size(shape), made, training=training) == size


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (options(di=2), (3, 4)),
        (options(di=2), ()),  # 2.1: a scalar counts as one
        (options().deviceIterations(0), (3,)),  # 1.3: accepted there, fails here
    ],
)
def test_batch_that_cannot_be_split_is_an_assertion_error(
    made: poptorch.Options, shape: Any
) -> None:
    size = torch.Size(shape)
    with pytest.raises(AssertionError) as raised:
        checks.micro_batch_size(size, made, training=True)
    message = str(raised.value)
    assert message.startswith(f"Invalid batch dimension: In the input {size}")
    for name in ("deviceIterations", "replicationFactor", "inputReplicaGrouping"):
        assert name in message
    assert "gradientAccumulation(1)" in message
    assert message.endswith("see the batching semantics page")


def test_only_modules_that_can_be_captured_are_wrapped() -> None:
    with pytest.raises(poptorch.Error, match=r"Invalid type: 'model' .*Expected torch.nn.Module"):
        poptorch.inferenceModel(lambda x: x)  # type: ignore[arg-type]  # the mistake
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in new torch
        scripted = torch.jit.script(nn.ReLU())
    with pytest.raises(poptorch.Error, match="0: RecursiveScriptModule is a TorchScript module"):
        poptorch.inferenceModel(nn.Sequential(scripted))


def test_a_model_from_torch_compile_is_refused() -> None:
    # 5: torch.compile is unsupported on IPU
    if sys.version_info >= (3, 11) and not hasattr(torch, "export"):
        pytest.skip("torch.compile of this torch does not know this Python")
    compiled = torch.compile(nn.ReLU())
    with pytest.raises(poptorch.Error, match=r"OptimizedModule comes from torch\.compile"):
        poptorch.inferenceModel(compiled)  # type: ignore[arg-type]  # typed as a function


def test_inference_refuses_gradient_accumulation() -> None:
    words = (
        r"You must set poptorch\.Options\(\)\.Training\.gradientAccumulation to 1 or leave it as"
        r" its default value \(1\) when running a poptorch\.inferenceModel\(\)\."
    )
    with pytest.raises(poptorch.Error, match=words):
        checks.check_inference_options(options(ga=2))
    checks.check_inference_options(options(di=4, r=2))


def test_options_of_another_type_are_refused() -> None:
    words = r"Invalid type: 'options' is of type .*dict.* \(Expected poptorch\.Options\)"
    with pytest.raises(poptorch.Error, match=words):
        checks.check_options_type({})


def test_offline_model_cannot_be_called() -> None:
    with pytest.raises(
        AssertionError,
        match=r"Trying to run a model on an offline device \(ConnectionType\.Never\): use",
    ):
        checks.check_online(poptorch.Options().useOfflineIpuTarget())
    checks.check_online(poptorch.Options())


def test_pipelines_need_enough_micro_batches() -> None:
    # 2.12: F = 3 stages need GA >= 5 in training, DI >= 3 in inference.
    checks.check_pipeline_length(options(ga=5), 3, training=True)
    checks.check_pipeline_length(options(di=3), 3, training=False)
    checks.check_pipeline_length(options(), 1, training=True)
    with pytest.raises(
        poptorch.Error,
        match=r"gradientAccumulation must be greater than or equal to the number of pipeline"
        r" stages \(5\) when using poptorch\.PipelinedExecution\. Please note that a model with 3"
        r" pipeline stages in PopTorch will have an additional 2 stages when training\.",
    ):
        checks.check_pipeline_length(options(ga=4), 3, training=True)
    with pytest.raises(
        poptorch.Error,
        match=r"deviceIterations must be greater than or equal to the number of pipeline stages"
        r" \(3\) when using PopTorch\.PipelinedExecution\.",
    ):
        checks.check_pipeline_length(options(di=2), 3, training=False)
