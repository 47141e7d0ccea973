"""Fixtures for tests of the host runtime."""

from __future__ import annotations

import dataclasses
from typing import Callable, Iterator, Optional

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import host


@pytest.fixture
def configure() -> Iterator[Callable[..., object]]:
    """`host.configure`, with the settings put back afterwards."""
    before = host.configure()
    yield host.configure
    host.configure(**dataclasses.asdict(before))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread: for many tiny operators more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> poptorch.Options:
    """Options as they are without an environment."""
    for name in (
        "POPTORCH_CACHE_DIR",
        "POPTORCH_DEFAULT_OPTIONS",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
    ):
        monkeypatch.delenv(name, raising=False)
    return poptorch.Options()


class Calls(nn.Module):
    """A module around a function of tensors."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x)


@pytest.fixture
def wrap() -> Callable[..., poptorch.PoplarExecutor]:
    """An inference executor around a function of one tensor."""

    def make(
        function: Callable[..., object], options: Optional[poptorch.Options] = None
    ) -> poptorch.PoplarExecutor:
        return poptorch.inferenceModel(Calls(function), options)

    return make
