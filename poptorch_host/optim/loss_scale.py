"""Automatic loss scaling: a factor on the optimizer's loss scaling that follows half gradients.

After each weight update the factor doubles, or is halved if too many elements of the update's half
gradients were large. As PopART's: the greatest scale keeps gradients off the end of half's range.
"""

from __future__ import annotations

from typing import Iterable

import torch

LARGE = 0.125 * torch.finfo(torch.float16).max  # PopART's bin edge, a part of half's range
SHARE = 1e-7  # PopART's threshold: this part of all elements may be large
GREATEST = 2.0**15  # of the final scale; the next power of two is no half
NAME = "lossScaleUpdateFactor"
"""Of the factor in `state_dict()["ipu_param"]`."""


class LossScale:
    """The factor and the statistics of the update that is being collected."""

    def __init__(self) -> None:
        self.factor = 1.0
        """Times the optimizer's loss_scaling is the final loss scale."""
        self._large = 0
        self._elements = 0

    def track(self, gradients: Iterable[torch.Tensor]) -> None:
        """Count one micro-batch; gradients that are not half play no part."""
        for gradient in gradients:
            if gradient.dtype == torch.float16:
                calm = (gradient.detach().abs() <= LARGE).sum().item()  # NaN is not calm
                self._large += gradient.numel() - int(calm)
                self._elements += gradient.numel()

    def update(self, initial: float) -> None:
        """Change the factor after a weight update.

        Args:
            initial: the optimizer's loss_scaling.
        """
        if not self._elements:
            return
        if self._large > SHARE * self._elements:
            self.factor /= 2
        elif self.factor * initial * 2 <= GREATEST:
            self.factor *= 2
        self._large = self._elements = 0
