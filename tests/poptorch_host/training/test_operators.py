"""What gradients do at PopTorch's own operators, at `no_grad` and `detach`."""

from __future__ import annotations

from typing import Any, Callable, Tuple

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

import poptorch_host as poptorch
from poptorch_host import host
from tests.poptorch_host.training.product import Product, rate_one

pytestmark = pytest.mark.usefixtures("one_thread")


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = 10 * x * gradient
        return result  # told apart from plain autograd's 2 * x


def test_a_custom_operator_is_differentiated_as_its_function_is() -> None:
    apply: Callable[[Tensor], Tensor] = Square.apply
    host.register_custom_op("test.training", "Square", lambda inputs, _: [apply(inputs[0])])

    class Squares(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = self.weight * x
            (y,) = poptorch.custom_op([y], "Square", "test.training", 1, [y])
            return poptorch.identity_loss(y, "sum"), y

    model = Squares()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 1.0 - 10.0


def test_an_operator_computed_again_on_the_way_back_is_still_on_the_device() -> None:
    # Outside an executor a custom operator gives zeros, so its gradient would be lost.
    host.register_custom_op("test.training", "Cube", lambda inputs, _: [inputs[0] ** 3])

    class Recomputes(Product):
        def part(self, x: Tensor) -> Tensor:
            y = self.weight * x
            (y,) = poptorch.custom_op([y], "Cube", "test.training", 1, [y])
            return y * y

        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = torch.utils.checkpoint.checkpoint(self.part, x, use_reentrant=False)
            return poptorch.identity_loss(y, "sum"), y

    model = Recomputes()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 1.0 - 6.0


def test_checkpoints_and_hints_let_gradients_pass() -> None:
    class Hinted(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = poptorch.recomputationCheckpoint(poptorch.nop(self.weight * x))
            y = poptorch.set_available_memory(y, 0.3)
            return poptorch.identity_loss(y, "sum"), y

    model = Hinted()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 0.0


def test_gradients_of_tensors_can_be_printed(capfd: pytest.CaptureFixture[str]) -> None:
    class Prints(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = poptorch.ipu_print_tensor(self.weight * x, "y")
            return poptorch.identity_loss(3 * y, "sum"), y

    model = Prints()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["y: {(1.0000)}", "Gradient___y: {(3.0000)}"]


def test_no_grad_and_detach_are_honoured() -> None:
    class Partly(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            with torch.no_grad():
                constant = self.weight * 10
            y = self.weight * x + constant + self.weight.detach() * 100
            return poptorch.identity_loss(y, "sum"), y

    model = Partly()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 0.0
