"""`ipu_print_tensor` writes values and gradients to stderr, in the asked format (1.6)."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import _state

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
Printed = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """What one tensor looks like inside an executor."""

    def write(tensor: Tensor, **options: Any) -> str:
        with _state.running():
            assert poptorch.ipu_print_tensor(tensor, "x", **options) is tensor
        return capsys.readouterr().err

    return write


def test_outside_an_executor_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert poptorch.ipu_print_tensor(X, "x") is X
    assert capsys.readouterr().err == ""


def test_rows_stand_on_lines_of_their_own(printed: Printed) -> None:
    assert printed(X, digits=1) == "x: {((1.0, 2.0, 3.0),\n (4.0, 5.0, 6.0))}\n"
    assert printed(torch.tensor([1, 2])) == "x: {(1, 2)}\n"
    assert printed(torch.tensor(True)) == "x: {True}\n"


FORMATS: Dict[str, Dict[str, Any]] = {
    "(  1.5000, -20.2500)": {},
    "(  1.5, -20.2)": {"digits": 1},
    "( 1.50e+00, -2.02e+01)": {"digits": 2, "float_format": "scientific"},
    "(  1.500, -20.250)": {"digits": 3, "float_format": "fixed"},
    "(   1.5, -20.25)": {"float_format": "none"},
    "(1.5, -20.25)": {"digits": 0},  # as they are, not aligned
    "[   1.5 -20.25]": {
        "float_format": "none",
        "separator": " ",
        "open_bracket": "[",
        "close_bracket": "]",
    },
}


@pytest.mark.parametrize("text", sorted(FORMATS))
def test_numbers_have_one_width_and_the_asked_format(text: str, printed: Printed) -> None:
    values = torch.tensor([1.5, -20.25])
    assert printed(values, **FORMATS[text]) == f"x: {{{text}}}\n"


def test_large_and_tiny_values_are_scientific_by_themselves(printed: Printed) -> None:
    assert printed(torch.tensor([1e7, 1.0]), digits=2) == "x: {(1.00e+07, 1.00e+00)}\n"
    assert printed(torch.tensor([1e-6]), digits=0) != printed(torch.tensor([1e-6]), digits=1)
    assert printed(torch.tensor([float("nan"), 1.0]), digits=1) == "x: {(nan, 1.0)}\n"


def test_large_tensors_are_summarised_at_their_edges(printed: Printed) -> None:
    values = torch.arange(9)
    few: Dict[str, Any] = {"summarise_threshold": 8, "edge_items": 2}
    assert printed(values, **few) == "x: {(0, 1, ..., 7, 8)}\n"
    assert printed(values[:8], **few) == "x: {(0, 1, 2, 3, 4, 5, 6, 7)}\n"
    few["summarise_threshold"] = 0  # never
    assert "..." not in printed(values, **few)
    square = printed(torch.arange(16).view(4, 4), summarise_threshold=1, edge_items=1)
    assert square == "x: {(( 0, ...,  3),\n ...,\n (12, ..., 15))}\n"


def test_long_lines_are_split(printed: Printed) -> None:
    assert printed(torch.arange(6), max_line_width=10) == "x: {(0, 1, 2,\n 3, 4, 5)}\n"
    assert printed(torch.arange(6), max_line_width=0) == "x: {(0, 1, 2, 3, 4, 5)}\n"


def test_it_is_written_once_per_micro_batch(capsys: pytest.CaptureFixture[str]) -> None:
    class Prints(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return poptorch.ipu_print_tensor(x * 0, "x")

    options = poptorch.Options().deviceIterations(2)
    poptorch.inferenceModel(Prints(), options)(torch.ones(2, 1))
    assert capsys.readouterr().err == "x: {((0.0000))}\n" * 2


@pytest.mark.parametrize("gradient", [True, False])
def test_training_writes_the_gradient_unless_told_otherwise(
    gradient: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    class Prints(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            y = poptorch.ipu_print_tensor(self.weight * x, "y", print_gradient=gradient)
            return poptorch.identity_loss(3 * y, "sum")

    poptorch.trainingModel(Prints())(torch.ones(1))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["y: {(1.0000)}", "Gradient___y: {(3.0000)}"][: 1 + gradient]


def test_misuse_is_refused() -> None:
    with pytest.raises(poptorch.Error, match=r"must take a torch\.tensor argument, got int"):
        poptorch.ipu_print_tensor(3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="float_format must be one of"):
        poptorch.ipu_print_tensor(X, float_format="hex")
