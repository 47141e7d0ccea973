"""Anchored tensors: values of the graph that come back after a call beside forward's results.

Each has its own output mode: with T micro-batches in a call, All, EveryN(n), Final and Sum keep T,
T // n, R or R values, merged along dimension 0 as results are (R replicas).
"""

from __future__ import annotations

import contextlib
import difflib
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..capture.program import Program
from ..enums import OutputMode
from ..errors import createPoptorchError
from ..options import Options
from ..tensors import microbatch, names
from ..tensors.microbatch import Plan
from ..tensors.operands import tensors_in

GRADIENT, UPDATED, LOSS_SCALE = "Gradient___", "UpdatedVar___", "finalLossScale"


class Anchor(NamedTuple):
    """One tensor that is kept."""

    name: str
    """In the graph."""
    plan: Plan
    """Which micro-batches it is kept of, and how they are merged."""


class Anchors:
    """The anchored tensors of one compiled model."""

    def __init__(
        self,
        options: Options,
        program: Program,
        plan: Plan,
        weights: Mapping[str, Tensor],
        trained: Mapping[str, Tensor],
    ) -> None:
        """Look the names up.

        Args:
            plan: of forward's results.
            weights: parameters and buffers.
            trained: those of them that get gradients.

        Raises:
            poptorch.Error: the graph has no tensor of such a name.
        """
        self._shapes = shapes_of(program, weights, trained)
        self._modules = options._module_namescope_enabled
        self._anchors: Dict[str, Anchor] = {}
        for short_name, entry in options.anchored_tensors.items():
            long_name, follows_global, mode, period = entry
            if long_name not in self._shapes:
                raise _unknown(short_name, long_name, list(self._shapes))
            own = plan if follows_global else plan._replace(mode=OutputMode(mode), period=period)
            self._anchors[short_name] = Anchor(long_name, own)
        self._wanted = {anchor.name for anchor in self._anchors.values()}
        self._latest: Dict[str, Tensor] = {}
        self._kept: Dict[str, List[Tensor]] = {}
        self._index = 0
        self._replicas = plan.replicas
        self._step: List[Mapping[str, Tensor]] = []  # weights of the replicas in this micro-step

    @property
    def watches_operators(self) -> bool:
        """Whether a tensor is anchored that `forward` computes on its way."""
        return any(":" in name for name in self._wanted)

    def start(self) -> None:
        """A call begins."""
        self._index, self._step = 0, []
        self._kept = {short_name: [] for short_name in self._anchors}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Around `forward` of one micro-batch."""
        self._latest = {}
        if not self.watches_operators:
            yield
            return

        def take(name: str, like: Tensor, compute: Any) -> None:
            if name in self._wanted:
                self._latest[name] = compute().detach().clone()

        namer = names.Namer(take, modules=self._modules)
        with names.naming(namer), _Watch():  # type: ignore[no-untyped-call]  # as half.py
            yield

    def take_gradients(self, trained: Mapping[str, Tensor]) -> None:
        """After the way back of one micro-batch: `.grad` is this micro-batch's alone."""
        for name, weight in trained.items():
            if GRADIENT + name in self._wanted:
                gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
                self._latest[GRADIENT + name] = gradient.detach().clone()

    def finish(self, weights: Mapping[str, Tensor], loss_scaling: Optional[float] = None) -> None:
        """After one micro-batch, and the update that it may have made.

        Args:
            weights: parameters and buffers of its replica; all replicas' are looked at after the
                last one's micro-batch, which is when an update has reached all.

        Raises:
            poptorch.Error: the run did not compute what the capture had.
        """
        if loss_scaling is not None:
            self._latest[LOSS_SCALE] = torch.tensor(loss_scaling)
        for short_name, (name, _) in self._anchors.items():
            if _weight_of(name, weights) is None:
                if name not in self._latest:
                    raise _not_computed(short_name, name)
                self._keep(short_name, self._index, self._latest[name])
        self._index += 1
        self._latest = {}
        self._step.append(weights)
        if len(self._step) == self._replicas:
            step, self._step = self._step, []
            for index, table in enumerate(step, self._index - len(step)):
                for short_name, (name, _) in self._anchors.items():
                    weight = _weight_of(name, table)
                    if weight is not None:
                        self._keep(short_name, index, weight.detach().clone())

    def _keep(self, short_name: str, index: int, value: Tensor) -> None:
        if microbatch.returned(index, self._anchors[short_name].plan):
            self._kept[short_name].append(value.cpu())

    def merged(self) -> Dict[str, Tensor]:
        """The values of a call that has ended, by short name."""
        return {
            short_name: microbatch.merge(self._kept[short_name], anchor.plan)
            for short_name, anchor in self._anchors.items()
        }

    def zeros(self) -> Dict[str, Tensor]:
        """What a call with synthetic data gives."""
        self.start()
        for short_name, (name, plan) in self._anchors.items():
            shape, dtype = self._shapes[name]
            kept = [i for i in range(plan.micro_batches) if microbatch.returned(i, plan)]
            self._kept[short_name] = [torch.zeros(shape, dtype=dtype) for _ in kept]
        return self.merged()


def shapes_of(
    program: Program, weights: Mapping[str, Tensor], trained: Mapping[str, Tensor]
) -> names.Shapes:
    """Every tensor of a graph that can be anchored, by name."""
    shapes: names.Shapes = {name: _shape(weight) for name, weight in weights.items()}
    shapes.update(program.tensors)
    for prefix in (GRADIENT, UPDATED):
        shapes.update({prefix + name: _shape(weight) for name, weight in trained.items()})
    if program.loss is not None:
        shapes[LOSS_SCALE] = (), torch.float32
    return shapes


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as half.py
    """Tells the namer what the dispatcher shows."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        namer = names.current()
        if namer is not None and not func._schema.name.startswith("prim::"):
            namer.operator(func._schema.name, args, tensors_in([outputs]))
        return outputs


def _shape(tensor: Tensor) -> Tuple[Tuple[int, ...], torch.dtype]:
    return tuple(tensor.shape), tensor.dtype


def _weight_of(name: str, weights: Mapping[str, Tensor]) -> Optional[Tensor]:
    """The weight whose value a name stands for; None if it stands for something else."""
    return weights.get(name[len(UPDATED) :] if name.startswith(UPDATED) else name)


def _not_computed(short_name: str, name: str) -> Exception:
    return createPoptorchError(
        f"anchorTensor({short_name!r}): {name} was computed when the model was compiled but not in"
        " this run: torch made other operators of it. Anchor a tensor before or after it"
    )


def _unknown(short_name: str, long_name: str, known: List[str]) -> Exception:
    near = difflib.get_close_matches(long_name, known, n=3, cutoff=0.4)
    return createPoptorchError(
        f"anchorTensor({short_name!r}): Anchor tensor {long_name!r} is no tensor of the graph."
        + (f" Near to it: {', '.join(near)}." if near else "")
        + " getTensorNames() of a compiled executor lists all"
    )
