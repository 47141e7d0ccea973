"""A model of one weight, and what its training takes."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor, nn

import poptorch_host as poptorch


def options(accumulation: int = 1, replicas: int = 1, iterations: int = 1) -> poptorch.Options:
    made = poptorch.Options().replicationFactor(replicas).deviceIterations(iterations)
    made.Training.gradientAccumulation(accumulation)
    return made


class Product(nn.Module):
    """The loss is the mean of weight * x: its gradient is the mean of x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return poptorch.identity_loss(self.weight * x, "mean"), x


def rate_one(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1.0)
