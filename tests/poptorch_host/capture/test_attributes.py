"""What `forward` writes into its model, while it is captured and later (2.4).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Dict, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from tests.poptorch_host.capture.refusal import Wrap


class Reassigns(nn.Module):
    buffer: Tensor

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.register_buffer("buffer", torch.zeros(1))
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "buffer":
            self.buffer = self.buffer + 1
        elif self.what == "weight":
            self.weight = nn.Parameter(self.weight + 1)
        else:
            del self.buffer
        return x + 1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("buffer", "Buffer buffer is reassigned within the model when calling the forward method"),
        ("weight", "Parameter weight is reassigned within the model"),
        ("delete", "buffer is removed from the model when calling the forward method"),
    ],
)
def test_parameters_and_buffers_stay_what_they_are(what: str, message: str) -> None:
    model = Reassigns(what)
    with pytest.raises(poptorch.Error, match=message) as caught:
        poptorch.inferenceModel(model).compile(torch.rand(2))
    assert __file__ in str(caught.value)
    assert set(model.state_dict()) == {"buffer", "weight"}


def test_forward_runs_once_at_compile_and_sets_attributes_once() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.runs = 0
            self.seen = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            self.seen = x
            return x * self.runs

    counts = Counts()
    executor = poptorch.inferenceModel(nn.Sequential(counts))
    x = torch.ones(2)
    for _ in range(3):  # a graph captured once multiplies by the same number each time
        torch.testing.assert_close(executor(x), x)
    assert counts.runs == 1
    assert type(counts.seen) is Tensor
    assert counts.seen.tolist() == [0.0]


def test_containers_that_forward_fills_do_not_grow_with_calls(wrap: Wrap) -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept: List[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.kept.append(1)
            return x + len(self.kept)

    model = Keeps()
    executor = poptorch.inferenceModel(model)
    for _ in range(3):
        torch.testing.assert_close(executor(torch.zeros(2)), torch.ones(2))
    assert model.kept == [1]


@pytest.mark.parametrize("refuse", [False, True])
def test_a_cache_that_forward_fills_gets_no_tensors_of_the_capture(refuse: bool) -> None:
    # levit and others keep tensors by device, which plain PyTorch calls read again
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.ones(2))
            self.cache: Dict[str, Tensor] = {}

        def forward(self, x: Tensor) -> Tensor:
            if "bias" not in self.cache:
                self.cache["bias"] = self.bias * 2
            return x[x > 0] if refuse else x + self.cache["bias"]

    model = Caches()
    executor = poptorch.inferenceModel(nn.Sequential(model))
    if refuse:
        with pytest.raises(poptorch.Error, match="determined by the tensor values"):
            executor(torch.zeros(2))
    else:
        assert executor(torch.zeros(2)).tolist() == [2.0, 2.0]
    assert model.cache == {}


def test_a_container_that_forward_fills_stays_the_same_object() -> None:
    class Logs(nn.Module):
        def __init__(self, log: List[int]) -> None:
            super().__init__()
            self.log = log

        def forward(self, x: Tensor) -> Tensor:
            self.log.append(x.shape[0])
            return x

    log: List[int] = []
    poptorch.inferenceModel(nn.Sequential(Logs(log), Logs(log))).compile(torch.zeros(3))
    assert log == [3, 3]
