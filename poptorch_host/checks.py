"""The checks of an executor's arguments and options.

DI device iterations, R replicas, G input replica group, GA gradient accumulation.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn

from .enums import ConnectionType, OutputMode
from .errors import createPoptorchError
from .options import Options


def check_options_type(options: object) -> None:
    """Raise poptorch.Error unless `options` is a `poptorch.Options`."""
    if not isinstance(options, Options):
        raise createPoptorchError(
            f"Invalid type: 'options' is of type {type(options)} (Expected poptorch.Options)"
        )


def check_model(model: object) -> None:
    """Raise poptorch.Error unless `model` is a module whose `forward` can be captured."""
    if not isinstance(model, nn.Module):
        raise createPoptorchError(
            f"Invalid type: 'model' is of type {type(model)} (Expected torch.nn.Module)"
        )
    for name, module in model.named_modules():
        kind = type(module).__name__
        where = f"{name}: {kind}" if name else kind
        if isinstance(module, torch.jit.ScriptModule):
            raise createPoptorchError(
                f"{where} is a TorchScript module: pass the nn.Module it was made from"
            )
        if kind == "OptimizedModule" and "_orig_mod" in module._modules:
            raise createPoptorchError(
                f"{where} comes from torch.compile, which the IPU does not take: pass the module"
                " that was given to it"
            )


def check_inference_options(options: Options) -> None:
    """Raise poptorch.Error when options of a training model are used for inference."""
    if options.Training.gradient_accumulation != 1:
        raise createPoptorchError(
            "You must set poptorch.Options().Training.gradientAccumulation to 1 or leave it as"
            " its default value (1) when running a poptorch.inferenceModel()."
            f" It is {options.Training.gradient_accumulation}: use a separate poptorch.Options"
            " for inference, and deviceIterations for more micro-batches per call."
        )


def check_online(options: Options) -> None:
    """Raise AssertionError when a model that may never attach to a device is called."""
    assert options.connection_type != ConnectionType.Never, (
        "Trying to run a model on an offline device (ConnectionType.Never):"
        " use model.compile(inputs) instead of model(inputs)"
    )


def check_pipeline_length(options: Options, forward_stages: int, *, training: bool) -> None:
    """Raise poptorch.Error when a pipeline of `forward_stages` has too few micro-batches.

    Only for `PipelinedExecution` with more than one stage; sharded and phased have no minimum.
    """
    if forward_stages < 2:
        return
    if training:
        needed = 2 * forward_stages - 1
        if options.Training.gradient_accumulation < needed:
            raise createPoptorchError(
                "poptorch.Options().Training.gradientAccumulation must be greater than or equal"
                f" to the number of pipeline stages ({needed}) when using"
                " poptorch.PipelinedExecution. Please note that a model with"
                f" {forward_stages} pipeline stages in PopTorch will have an additional"
                f" {forward_stages - 1} stages when training."
            )
    elif options.device_iterations < forward_stages:
        raise createPoptorchError(
            "poptorch.Options().deviceIterations must be greater than or equal to the number of"
            f" pipeline stages ({forward_stages}) when using PopTorch.PipelinedExecution."
        )


def check_output_mode(options: Options, *, training: bool) -> None:
    """Raise poptorch.Error when EveryN has a period that no call reaches."""
    steps = options.device_iterations * (options.Training.gradient_accumulation if training else 1)
    if options.output_mode is OutputMode.EveryN and options.output_return_period > steps > 0:
        raise createPoptorchError(
            f"outputMode(EveryN, {options.output_return_period}) returns nothing: a call has"
            f" {steps} micro-batches (deviceIterations * Training.gradientAccumulation); use a"
            " smaller period"
        )


def micro_batches_per_call(options: Options, *, training: bool) -> int:
    """DI * (R // G) * GA: how many blocks the first dimension of every input is cut into."""
    accumulation = options.Training.gradient_accumulation if training else 1
    groups = options.replication_factor // options.input_group_size
    return options.device_iterations * groups * accumulation


def micro_batch_size(shape: torch.Size, options: Options, *, training: bool) -> Optional[int]:
    """First dimension of one micro-batch of an input of this shape; None for a scalar.

    A 0-d tensor counts as a batch of one and passes whole.

    Raises:
        AssertionError: the batch is no multiple of the micro-batches per call.
    """
    per_call = micro_batches_per_call(options, training=training)
    batch = shape[0] if len(shape) else 1
    factors = [
        f"Options().deviceIterations({options.device_iterations})",
        f"(Options().replicationFactor({options.replication_factor}) /"
        f" Options().inputReplicaGrouping(input_group_size={options.input_group_size}))",
    ]
    if training:
        accumulation = options.Training.gradient_accumulation
        factors.append(f"Options().Training.gradientAccumulation({accumulation})")
    # per_call is 0 after deviceIterations(0), which PopTorch stores and lets fail here.
    assert per_call > 0 and batch % per_call == 0, (
        f"Invalid batch dimension: In the input {shape}, the batch dimension ({batch}) must be a"
        f" multiple of {' * '.join(factors)} = {per_call}, because it is split into that many"
        " micro-batches. For a full explanation see the batching semantics page"
    )
    return batch // per_call if len(shape) else None
