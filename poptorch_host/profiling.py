"""`poptorch.profiling`: marks for PopVision, which a host does not have."""

from __future__ import annotations

import contextlib
from typing import Iterator


class Channel:
    """A named group of trace points. Empty without libpvti, as in PopTorch: nothing is recorded."""

    def __init__(self, name: str) -> None:
        self.name = name

    def instrument(self, obj: object, *methods: str) -> None:
        """Trace calls of these methods; without libpvti the object stays as it is."""
        missing = [method for method in methods if not hasattr(obj, method)]
        if missing:
            raise AttributeError(f"{type(obj).__name__} has no methods {missing} to instrument")

    @contextlib.contextmanager
    def tracepoint(self, name: str) -> Iterator[None]:
        """Trace what runs inside."""
        yield
