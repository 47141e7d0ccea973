"""A model of one weight, whose updates are done by hand."""

from __future__ import annotations

from typing import Any, Callable, List

import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Make = Callable[[Any], Any]


class OneWeight(nn.Module):
    """The loss is the mean of weight * x, so the gradient is the mean of x."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.weight * x, "mean")


def weights_after(make: Make, gradients: List[float], **setting: Any) -> List[float]:
    """A weight that starts at 1, after each of several calls with these gradients."""
    model = OneWeight()
    executor = poptorch.trainingModel(model, optimizer=make(model.parameters()), **setting)
    found = []
    for gradient in gradients:
        executor(torch.tensor([gradient]))
        found.append(model.weight.item())
    return found
