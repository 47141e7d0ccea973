"""The loss of a training model: found in one captured `forward`, met again in its runs.

A loss is `identity_loss` or one of torch's losses that PopTorch knows. Losses are numbered in the
order in which `forward` computes them; one that another is computed from is no candidate.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.overrides import TorchFunctionMode

from ..errors import createPoptorchError

IDENTITY = "identity_loss"
BUILT_IN = frozenset(
    ["l1_loss", "mse_loss", "cross_entropy", "nll_loss", "binary_cross_entropy", "kl_div"]
    + ["binary_cross_entropy_with_logits", "poisson_nll_loss", "hinge_embedding_loss"]
    + ["smooth_l1_loss", "soft_margin_loss", "multilabel_soft_margin_loss", "ctc_loss"]
    + ["cosine_embedding_loss", "margin_ranking_loss", "triplet_margin_loss"]
)
"""Functions of torch whose results PopTorch takes for losses."""


class LossPoint(NamedTuple):
    """Which of the losses in a `forward` is differentiated."""

    name: str
    """`identity_loss` or a torch function."""
    number: int
    """Among identity losses, or among built-in ones, from 0."""


class LossFinder:
    """Follows losses through one capture."""

    def __init__(self) -> None:
        self._found: List[Tuple[str, torch.Tensor]] = []
        self._fed: FrozenSet[int] = frozenset()  # losses that others are computed from
        self._sources: Dict[int, FrozenSet[int]] = {}  # storage -> losses it comes from
        self._alive: List[torch.Tensor] = []  # so that no storage address is used twice

    def mark(self, name: str, tensor: torch.Tensor) -> None:
        """Note that `name` computed a loss."""
        key = _storage(tensor)
        self._fed |= self._sources.get(key, frozenset())
        self._sources[key] = frozenset([len(self._found)])
        self._alive.append(tensor)
        self._found.append((name, tensor))

    def follow(self, read: Sequence[torch.Tensor], written: Sequence[torch.Tensor]) -> None:
        """Note what an operator computed from what."""
        if not self._found:
            return
        sources = frozenset().union(*(self._sources.get(_storage(t), ()) for t in read))
        if not sources:
            return
        for tensor in written:
            key = _storage(tensor)
            self._sources[key] = self._sources.get(key, frozenset()) | sources
            self._alive.append(tensor)

    def final(self) -> LossPoint:
        """The one loss that no other is computed from.

        Raises:
            poptorch.Error: there is none, there are several, or it has more than one element.
        """
        if not self._found:
            raise createPoptorchError(
                "Couldn't find a loss in graph! A training model must return, or at least compute,"
                f" poptorch.identity_loss or one of torch's losses {sorted(BUILT_IN)}"
            )
        last = [index for index in range(len(self._found)) if index not in self._fed]
        if len(last) > 1:
            names = ", ".join(self._found[index][0] for index in last)
            raise createPoptorchError(
                "Multiple independent losses found in graph. Graph must have one final loss. Wrap"
                f" final graph loss in poptorch.identity_loss. Found: {names}"
            )
        name, tensor = self._found[last[0]]
        if tensor.numel() != 1:
            raise createPoptorchError(
                f"Loss tensor, '{name}', must be a scalar tensor, but has shape"
                f" {list(tensor.shape)}: use reduction='mean' or 'sum'"
            )
        before = [
            one for one, _ in self._found[: last[0]] if (one == IDENTITY) == (name == IDENTITY)
        ]
        return LossPoint(name, len(before))


class LossCatcher:
    """Keeps the differentiated loss of one run."""

    def __init__(self, point: LossPoint) -> None:
        self._point = point
        self._count = 0
        self.loss: Optional[torch.Tensor] = None

    def mark(self, name: str, tensor: torch.Tensor) -> None:
        """Note that `name` computed a loss."""
        if (name == IDENTITY) != (self._point.name == IDENTITY):
            return
        if self._count == self._point.number:
            self.loss = tensor
        self._count += 1

    def follow(self, read: Sequence[torch.Tensor], written: Sequence[torch.Tensor]) -> None:
        """A run follows nothing: the capture did."""


class LossWatch(TorchFunctionMode):
    """Tells a catcher of torch's losses as `forward` calls them."""

    def __init__(self, catcher: LossCatcher) -> None:
        super().__init__()
        self._catcher = catcher

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in BUILT_IN and isinstance(result, torch.Tensor):
            self._catcher.mark(name, result)
        return result


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
