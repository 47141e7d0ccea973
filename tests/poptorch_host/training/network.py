"""A convolutional network, trained by plain PyTorch."""

from __future__ import annotations

from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Network(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.to(dtype)

    def forward(self, x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
        logits = self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits, F.cross_entropy(logits.float(), y)


def batch(size: int) -> List[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(size, 2, 6, 6), torch.randint(0, 3, (size,))]


def plain_training(
    model: nn.Module, data: List[Tensor], steps: int, micro_batches: int, lr: float
) -> None:
    """Steps of SGD with momentum on the mean of micro-batch losses, in plain PyTorch."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr, 0.9)
    parts = list(zip(*[torch.chunk(tensor, steps * micro_batches) for tensor in data]))
    for step in range(steps):
        optimizer.zero_grad()
        mine = parts[step * micro_batches : (step + 1) * micro_batches]
        torch.autograd.backward(torch.stack([model(*part)[1] for part in mine]).mean())
        optimizer.step()


def assert_close(got: nn.Module, expected: nn.Module, names: str = "") -> None:
    others = expected.state_dict()
    for name, tensor in got.state_dict().items():
        if names in name and tensor.is_floating_point():
            torch.testing.assert_close(tensor, others[name], rtol=1e-5, atol=1e-6)
