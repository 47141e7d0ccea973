"""Mixed precision where it is not a matter of the weights' types."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["Autocast"]


class Autocast(nn.Module):
    """A module whose forward runs under autocast.

    It stands around the module on every device, also where nothing is cast, so that parameters, and
    with them the state of optimizers, have the same names on all.

    Args:
        module: what runs.
        device: "cuda" casts to bfloat16, whose range needs no loss scaling; others cast nothing.
    """

    def __init__(self, module: nn.Module, device: str) -> None:
        super().__init__()
        self.module = module
        self.enabled = device == "cuda"

    def forward(self, *inputs: Any) -> Any:
        """As the module's."""
        if not self.enabled:
            return self.module(*inputs)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return self.module(*inputs)
