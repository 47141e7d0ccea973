"""Settings of the host runtime itself, which PopTorch does not have; changed through
`host.configure`.

Each has an environment variable POPTORCH_HOST_<NAME>, read when this module is imported.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Mapping, Optional

_CHOICES = {
    "schedule": ("auto", "sequential", "gpipe", "1f1b"),
    "engine": ("eager", "compile"),
    "operators": ("refuse", "report"),
    "loader_buffers": ("copied", "reused"),
    "recompute": ("auto", "always", "never"),
}


@dataclass(frozen=True)
class Settings:
    """How executors that compile from now on run."""

    device: str = "cpu"
    """A torch device: cpu, cuda, cuda:1."""
    schedule: str = "auto"
    """How stages are run: sequential (each rank runs the whole model), gpipe or 1f1b (a stage per
    rank); auto is sequential in a run of one rank and 1f1b on several."""
    engine: str = "eager"
    """eager, or compile (torch.compile)."""
    operators: str = "refuse"
    """What happens to operators PopTorch does not take: refuse, or report (a warning)."""
    threads: Optional[int] = None
    """CPU threads; None leaves torch's choice."""
    keep_memory: bool = True
    """Let the C library keep big freed blocks instead of returning them to the system each time."""
    loader_buffers: str = "copied"
    """Elements of asynchronous loaders: copied, or reused (views that the next one overwrites)."""
    strict: bool = False
    """Repeat defects of PopTorch 3.4 that are mended else: AdamW's bias_correction is not read."""
    recompute: str = "auto"
    """Whether training computes activations once more on the way back instead of keeping them: auto
    does where forward calls `recomputationCheckpoint`, and in pipelines over ranks."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"host.configure: {name} must be one of {choices}, got {value!r}")
        if not isinstance(self.device, str) or self.device.partition(":")[0] not in ("cpu", "cuda"):
            raise ValueError(
                f"host.configure: device must be 'cpu', 'cuda' or 'cuda:N', got {self.device!r}"
            )
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise ValueError(
                f"host.configure: threads must be a positive int or None, got {self.threads!r}"
            )


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Defaults with the POPTORCH_HOST_* variables that are set.

    Raises:
        ValueError: a variable has a value its setting does not take.
    """
    values = {}
    for name in (field.name for field in dataclasses.fields(Settings)):
        text = environment.get(f"POPTORCH_HOST_{name.upper()}")
        if text:
            values[name] = _parse(name, text)
    return dataclasses.replace(Settings(), **values)  # type: ignore[arg-type]


def current() -> Settings:
    """The settings now."""
    return _current[0]


def change(values: Mapping[str, object]) -> None:
    """Replace settings by name."""
    _current[0] = dataclasses.replace(_current[0], **values)  # type: ignore[arg-type]


def _parse(name: str, text: str) -> object:
    variable = f"POPTORCH_HOST_{name.upper()}"
    if name == "threads":
        if not text.isdigit():
            raise ValueError(f"{variable} must be a positive number, got {text!r}")
        return int(text)
    if name in ("keep_memory", "strict"):
        if text not in ("0", "1"):
            raise ValueError(f"{variable} must be 0 or 1, got {text!r}")
        return text == "1"
    return text


_current = [from_environment(os.environ)]
