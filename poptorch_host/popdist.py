"""The place of `popdist`, Graphcore's launcher interface; not on the host yet."""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise NotImplementedError(
        f"popdist.{name} is not available in poptorch_host yet; describe the processes with"
        " poptorch.Options().Distributed.configureProcessId(process_id, num_processes)"
    )
