"""Where EfficientDet's criterion and training module come in; inference does not need them."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["for_training"]


def for_training(name: str) -> NoReturn:
    """Refuse, and say what is missing.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"{name}.for_training(): the training module (anchor matching, focal and box losses) is not"
        " part of this version; `.network` holds the trainable parameters"
    )
