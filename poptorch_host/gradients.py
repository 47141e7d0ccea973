"""Gradients of the micro-batches of one weight update, added up in an accumulator of their own.

GA gradient accumulation, R replicas: an update sums GA * R gradients, or takes their mean, which is
divided at the end (Post) or kept as a running mean (Running).
"""

from __future__ import annotations

from typing import Dict, Mapping

import torch
from torch import nn


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
        self._sums: Dict[str, torch.Tensor] = {}

    def clear(self) -> None:
        """Forget what was added."""
        self._count = 0
        self._sums.clear()

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

    def take(self, loss_scaling: float) -> Dict[str, torch.Tensor]:
        """The reduced gradients, float32, and start again.

        Args:
            loss_scaling: factor in all gradients that is divided out.
        """
        divisor = loss_scaling * (self._count if self._mean and not self._running else 1)
        sums, self._sums, self._count = self._sums, {}, 0
        if divisor == 1:
            return {name: total.float() for name, total in sums.items()}
        return {name: total.float().div_(divisor) for name, total in sums.items()}
