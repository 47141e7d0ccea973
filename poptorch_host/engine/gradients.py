"""Gradients of the micro-batches of one weight update, added up in accumulators of their own.

GA gradient accumulation, R replicas: an update sums GA * R gradients, or takes their mean, which is
divided at the end (Post) or kept as a running mean (Running). Each replica's GA are added up first,
then the replicas in their order: so sums are equal wherever replicas run.
"""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Optional

import torch
from torch import nn

Totals = Dict[str, torch.Tensor]


class Gradients:
    """The accumulators of all weights."""

    def __init__(self, *, mean: bool, running: bool) -> None:
        """Start empty.

        Args:
            mean: take the mean of the micro-batches, else their sum.
            running: keep a running mean; no effect on sums.
        """
        self._mean = mean
        self._running = mean and running
        self._count = 0
        self._sums: Totals = {}  # of the present replica
        self._replicas = 0
        self._added = 0
        self._totals: Totals = {}  # of the replicas that are closed

    def clear(self) -> None:
        """Forget what was added."""
        self._count = self._replicas = self._added = 0
        self._sums, self._totals = {}, {}

    def add(self, weights: Mapping[str, nn.Parameter], dtype: torch.dtype) -> None:
        """Take `.grad` of one micro-batch from the weights.

        Args:
            weights: by name; those without a gradient are left out.
            dtype: of the accumulators.
        """
        before = self._count
        self._count += 1
        for name, weight in weights.items():
            gradient, weight.grad = weight.grad, None
            if gradient is None:
                continue
            total = self._sums.get(name)
            if total is None:  # zero so far, so a running mean starts by dividing as well
                if self._running and before:
                    gradient = gradient.float() / self._count
                self._sums[name] = gradient.to(dtype)
            elif self._running:
                mean = total.float() * (before / self._count) + gradient.float() / self._count
                total.copy_(mean)
            elif total.dtype == torch.float32:
                total.add_(gradient)
            else:
                total.copy_(total.float() + gradient.float())

    def close(self) -> None:
        """End a replica: what comes next is of another one."""
        for name, total in self._sums.items():
            before = self._totals.get(name)
            self._totals[name] = total.float() if before is None else before.add_(total.float())
        self._added += self._count
        self._replicas += 1
        self._sums, self._count = {}, 0

    def take(
        self, loss_scaling: float, add_others: Optional[Callable[[Totals], int]] = None
    ) -> Totals:
        """The reduced gradients, float32, and start again.

        Args:
            loss_scaling: factor in all gradients that is divided out.
            add_others: adds the totals of other processes to these, in place, and returns how many
                times as many replicas that makes.
        """
        if self._count:
            self.close()
        totals, divisor = self._totals, loss_scaling
        if self._mean:
            divisor *= self._replicas if self._running else self._added
        self._totals, self._replicas, self._added = {}, 0, 0
        others = 1 if add_others is None else add_others(totals)
        divisor *= others if self._mean else 1
        if divisor != 1:
            for total in totals.values():
                total.div_(divisor)
        return totals
