"""Any timm model with feature maps at strides 8, 16 and 32 as a backbone: `timm:<name>`.

timm is imported when such a backbone is built, and not before.
"""

from __future__ import annotations

import importlib
from typing import List, Tuple

from torch import Tensor, nn

__all__ = ["TimmFeatures"]


class TimmFeatures(nn.Module):
    """Feature maps of the levels `min_level`..5 of a timm model, randomly initialised.

    Padding is timm's own: symmetric, except in its `tf_` models. A map must have
    ceil(size / 2**l) cells, which every size that is a multiple of 32 gives.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm does not know the name, or the model lacks one of the strides.
    """

    def __init__(self, name: str, min_level: int = 3) -> None:
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"backbone 'timm:{name}' needs timm, which is not installed: pip install timm"
            ) from error
        if name not in timm.list_models():
            near = timm.list_models(f"*{name}*")[:3]
            raise ValueError(f"timm has no model '{name}'; it has {near or 'none like it'}")
        trunk: nn.Module = timm.create_model(name, features_only=True, pretrained=False)
        strides: List[int] = list(trunk.feature_info.reduction())  # type: ignore[operator, union-attr]
        wanted = [2**level for level in range(min_level, 6)]
        if not set(wanted) <= set(strides):
            raise ValueError(f"backbone 'timm:{name}' has strides {strides}, needs {wanted}")
        self.trunk = trunk
        self.indices = tuple(strides.index(stride) for stride in wanted)
        channels: List[int] = list(trunk.feature_info.channels())  # type: ignore[operator, union-attr]
        self.channels: Tuple[int, ...] = tuple(channels[index] for index in self.indices)

    def forward(self, images: Tensor) -> List[Tensor]:
        """(B, 3, H, W) normalised images -> feature maps, fine to coarse."""
        features: List[Tensor] = self.trunk(images)
        return [features[index] for index in self.indices]
