"""Two layers trained on the device and by plain PyTorch.

GA gradient accumulation, R replicas.
"""

from __future__ import annotations

from typing import Any, List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch

GA, R, MICRO = 16, 2, 2


class Network(nn.Module):
    """Two layers, normalised over the sample; the loss is the mean over the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(5, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = F.cross_entropy(self.head(F.relu(self.norm(self.body(x)))), y)
        return loss


def options(accumulation: int = GA, replicas: int = R, iterations: int = 1) -> poptorch.Options:
    made = poptorch.Options().replicationFactor(replicas).deviceIterations(iterations)
    made.Training.gradientAccumulation(accumulation)
    return made


def batch(blocks: int) -> List[Tensor]:
    torch.manual_seed(1)
    size = blocks * MICRO
    return [torch.randn(size, 5), torch.randint(0, 3, (size,))]


def plain_step(model: nn.Module, optimizer: Any, data: List[Tensor], blocks: int = GA * R) -> None:
    """One PyTorch step on the mean of the micro-batch losses."""
    optimizer.zero_grad()
    losses = [model(*part) for part in zip(*[torch.split(tensor, MICRO) for tensor in data])]
    assert len(losses) == blocks
    torch.autograd.backward(torch.stack(losses).mean())
    optimizer.step()


def assert_same_weights(got: nn.Module, expected: nn.Module, atol: float = 1e-6) -> None:
    for (name, tensor), other in zip(got.state_dict().items(), expected.state_dict().values()):
        difference = (tensor - other).abs().max().item()
        assert difference <= atol, f"{name} differs by {difference}"
