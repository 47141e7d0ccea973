"""Which operators PopTorch 3.4 takes, and the report of those a captured model used.

The lists are package data: `supported_ops.txt` (names, one a line), `supported_ops_notes.tsv`
(constraints and reasons) and `operator_aliases.tsv` (names that only some torch version shows).
A name is `namespace::op` without overload; in-place forms count as the name without the
underscore.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from ..options.effects import Effects
    from .stages import Stage

_FOLDER = Path(__file__).parent
_HARMLESS = ("limited", "composite", "redirect")

LOWERED: Dict[str, str] = {}
"""Operators of other libraries and what they are on the IPU; from `host.register_operator`."""


class Note(NamedTuple):
    """What is known about an operator beside its name."""

    status: str
    """limited, composite, error, host or redirect."""
    text: str


class Use(NamedTuple):
    """The first place where a model used an operator."""

    name: str
    location: str
    """`file:line` of the user's code."""


@dataclass
class CaptureReport:
    """What one capture saw; `poptorch_host.host.report(executor)` returns it."""

    operators: Dict[str, int] = field(default_factory=dict)
    """Uses of each operator, in order of first use."""
    unsupported: List[Use] = field(default_factory=list)
    """Operators PopTorch does not take, each with its first place."""
    stages: List[Stage] = field(default_factory=list)
    """Stages in order of execution."""
    options: Optional[Effects] = None
    """What a host does with the executor's options."""

    def render(self) -> str:
        """The report as text: one line for each operator that would be refused, then the stages."""
        total = sum(self.operators.values())
        lines = [f"{total} operators of {len(self.operators)} kinds"]
        lines += [f"not on the IPU: {use.name} ({use.location})" for use in self.unsupported]
        lines += [stage.render() for stage in self.stages]
        if self.options is not None and self.options.render():
            lines.append(self.options.render())
        return "\n".join(lines)


@lru_cache(maxsize=None)
def supported() -> FrozenSet[str]:
    """Every name PopTorch 3.4 lowers."""
    return frozenset((_FOLDER / "supported_ops.txt").read_text(encoding="utf-8").split())


@lru_cache(maxsize=None)
def notes() -> Mapping[str, Note]:
    """Constraints and reasons by name."""
    rows = _rows("supported_ops_notes.tsv")
    return {name: Note(status, text) for name, status, text in rows}


@lru_cache(maxsize=None)
def aliases() -> Mapping[str, str]:
    """Names some torch version shows, and the name PopTorch knows."""
    return {row[0]: row[1] for row in _rows("operator_aliases.tsv")}


def is_supported(name: str) -> bool:
    """Whether PopTorch takes the operator, itself or in the form it reaches PopTorch in."""
    name = LOWERED.get(name, name)
    for form in (name, name[:-1] if name.endswith("_") else name):
        form = aliases().get(form, form)
        note = notes().get(form)
        if form in supported() or (note is not None and note.status in _HARMLESS):
            return True
    return False


def refusal(uses: List[Use]) -> str:
    """PopTorch's message for operators it does not take, and where each is used first."""
    lines = [
        f"Unsupported ops found in compiled model: [{', '.join(use.name for use in uses)}]."
        " Not all operations are supported yet by Graphcore's PyTorch compiler."
    ]
    for use in uses:
        note = notes().get(use.name)
        lines.append(f"  {use.name} at {use.location}" + (f": {note.text}" if note else ""))
    lines.append(
        '  To list them without stopping: poptorch_host.host.configure(operators="report").'
    )
    return "\n".join(lines)


def _rows(name: str) -> List[Tuple[str, ...]]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines() if not line.startswith("#")]
