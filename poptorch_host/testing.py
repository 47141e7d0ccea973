"""`poptorch.testing`: compare a model's results with expected ones."""

from __future__ import annotations

from typing import Any

import torch


def allclose(expected: Any, actual: Any, **tolerances: Any) -> bool:
    """`torch.allclose` over nested lists and tuples; False when they are nested differently."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(actual, torch.Tensor) or expected.shape != actual.shape:
            return False
        return torch.allclose(expected, actual, **tolerances)
    if isinstance(expected, (list, tuple)):
        if not isinstance(actual, (list, tuple)) or len(expected) != len(actual):
            return False
        return all(allclose(e, a, **tolerances) for e, a in zip(expected, actual))
    return bool(expected == actual)
