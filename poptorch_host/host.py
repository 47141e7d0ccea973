"""Controls of the host runtime that PopTorch does not have; nothing of this is a PopTorch name.

from poptorch_host import host
host.configure(device="cuda", operators="report")
host.register_custom_op("my.domain", "MyOp", function)
print(host.report(executor).render())
"""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List

import torch

from . import custom_ops, settings
from .capture import operators
from .capture.operators import CaptureReport
from .errors import createPoptorchError
from .executor.executor import PoplarExecutor
from .heartbeat.faults import is_consequence
from .heartbeat.heartbeat import report as report_fault
from .options.effects import effects_of
from .ranks.ranks import check_pipelining
from .settings import Settings

__all__ = [
    "CaptureReport",
    "Settings",
    "check_pipelining",
    "configure",
    "is_consequence",
    "register_custom_op",
    "register_operator",
    "report",
    "report_fault",
]

_KEEP = object()


def configure(
    *,
    device: object = _KEEP,
    schedule: object = _KEEP,
    engine: object = _KEEP,
    operators: object = _KEEP,
    recompute: object = _KEEP,
    threads: object = _KEEP,
    keep_memory: object = _KEEP,
    loader_buffers: object = _KEEP,
    strict: object = _KEEP,
) -> Settings:
    """Change how executors that compile from now on run; what is left out stays.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        schedule: "sequential" runs the whole model in this process; "gpipe" and "1f1b" put each
            stage on a rank of its own; "auto" is "1f1b" under torchrun with several ranks, else
            "sequential".
        engine: "eager", or "compile" for torch.compile (torch 2.4 or later).
        operators: "refuse" stops at operators PopTorch does not take, "report" warns.
        recompute: whether training computes activations once more on the way back: "auto" where
            forward calls `recomputationCheckpoint` and in pipelines over ranks, "always", "never".
        threads: CPU threads, or None for torch's choice; acts at once, on all of torch.
        keep_memory: whether glibc keeps big freed blocks; cannot be taken back in a process where
            an executor has compiled.
        loader_buffers: "copied" elements of asynchronous loaders belong to the caller; "reused"
            ones are views of shared memory, valid until the next element, as in PopTorch.
        strict: whether defects of PopTorch 3.4 that are mended here are repeated: AdamW's
            bias_correction=False has no effect.

    Returns:
        the settings before, for `configure(**dataclasses.asdict(before))`.

    Raises:
        ValueError: a value a setting does not take.
    """
    given = {
        "device": device,
        "schedule": schedule,
        "engine": engine,
        "operators": operators,
        "recompute": recompute,
        "threads": threads,
        "keep_memory": keep_memory,
        "loader_buffers": loader_buffers,
        "strict": strict,
    }
    before = settings.current()
    settings.change({name: value for name, value in given.items() if value is not _KEEP})
    if settings.current().threads not in (None, before.threads):
        torch.set_num_threads(settings.current().threads or 1)
    return before


def register_custom_op(
    domain: str,
    name: str,
    function: Callable[[List[torch.Tensor], Dict[str, custom_ops.Attribute]], List[torch.Tensor]],
    version: int = 1,
) -> None:
    """Compute `poptorch.custom_op(name=, domain=, domain_version=)` by a function.

    Args:
        function: takes the input tensors and the attributes, returns the outputs in a list.
    """
    custom_ops.register(domain, name, function, version)


def register_operator(name: str, lowers_to: str) -> None:
    """Let a torch operator of another library pass, because on the IPU it is `lowers_to`.

    Args:
        name: `namespace::op` as the dispatcher shows it here.
        lowers_to: the operator the same code uses on the SDK, e.g. `aten::topk`.

    Raises:
        ValueError: PopTorch does not take `lowers_to` either.
    """
    if not operators.is_supported(lowers_to):
        raise ValueError(
            f"register_operator({name!r}): lowers_to must be an operator PopTorch takes,"
            f" got {lowers_to!r}"
        )
    operators.LOWERED[name] = lowers_to


def report(executor: PoplarExecutor) -> CaptureReport:
    """Operators, stages, refusals and options of a compiled executor.

    Raises:
        poptorch.Error: it is not compiled.
    """
    if executor._executable is None:
        raise createPoptorchError(
            "host.report: the model is not compiled; call it or compile() first"
        )
    report = executor._executable.program.report
    return dataclasses.replace(report, options=effects_of(executor._options))
