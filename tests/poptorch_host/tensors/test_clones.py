"""A copied module tree leads to other tensors wherever it leads to tensors."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from poptorch_host.tensors.clones import Cloner


def doubled(model: nn.Module, *, isolate: bool = False) -> Any:
    """The tree around tensors of twice the value."""

    def double(tensor: Tensor) -> Tensor:
        value = tensor.detach() * 2
        return nn.Parameter(value) if isinstance(tensor, nn.Parameter) else value

    return Cloner(double, isolate=isolate).clone(model)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.layer.weight)
        self.register_buffer("buffer", torch.ones(1))
        self.constant = torch.ones(1)
        self.hidden = [nn.Sequential(self.layer)]  # not registered
        self.table = {"weights": (self.layer.weight, "text")}
        self.method = self.run
        self.partial = functools.partial(self.run, scale=self.constant)
        self.names = ["a"]

    def run(self, x: Tensor, scale: Any = 1.0) -> Tensor:
        result: Tensor = self.hidden[0](x) * scale + self.buffer
        return result

    def forward(self, x: Tensor) -> Tensor:
        return self.method(x) + self.partial(x) + self.table["weights"][0].sum()


def test_every_way_to_a_tensor_is_followed() -> None:
    model = Model()
    x = torch.ones(1, 1)
    assert model(x).item() == (1 + 1) + (1 + 1) + 1
    # layer 2, buffer 2, constant 2
    assert doubled(model)(x).item() == (2 + 2) + (2 * 2 + 2) + 2
    assert model(x).item() == 5


def test_equal_objects_stay_equal() -> None:
    copy = doubled(Model())
    assert copy.hidden[0][0] is copy.layer
    assert copy.table["weights"][0] is copy.layer.weight
    assert copy.method.__self__ is copy
    assert type(copy) is Model
    assert isinstance(copy.layer.weight, nn.Parameter)


def test_containers_without_tensors_are_shared_unless_isolated() -> None:
    model = Model()
    assert doubled(model).names is model.names
    isolated = doubled(model, isolate=True)
    assert isolated.names == model.names
    assert isolated.names is not model.names


def test_recurrent_layers_keep_their_flat_weights() -> None:
    copy = doubled(nn.LSTM(2, 3))
    assert copy._flat_weights[0] is copy.weight_ih_l0


def test_hooks_are_kept() -> None:
    model = Model()
    model.layer.register_forward_hook(lambda module, inputs, output: output + 10)
    assert doubled(model).layer(torch.ones(1, 1)).item() == 12
