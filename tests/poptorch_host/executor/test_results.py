"""What a call returns: dtypes, constants and structure (2.2, 2.3).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, NamedTuple, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Wrap = Callable[..., poptorch.PoplarExecutor]


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


# ---- 2.2: dtypes and gradients -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.int64, torch.int32),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.bool, torch.bool),
        (torch.int16, torch.int16),
        (torch.uint8, torch.uint8),
    ],
)
def test_wide_dtypes_come_back_narrow(
    wrap: Wrap, given: torch.dtype, returned: torch.dtype
) -> None:
    result = wrap(lambda x: x.reshape(-1))(torch.ones(2, 2).to(given))
    assert result.dtype == returned
    assert result.float().tolist() == [1.0] * 4


def test_outputs_refuse_backward(wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error, match="backward\\(\\) cannot be called explicitly"):
        wrap(lambda x: x.sum())(torch.ones(2)).backward()


def test_returned_inputs_are_copies(wrap: Wrap) -> None:
    x = torch.zeros(2)
    result = wrap(lambda x: x)(x)
    result += 1
    assert x.tolist() == [0.0, 0.0]


def test_constants_of_the_host_are_returned_as_they_are(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    constant = torch.tensor([5.0])
    executor = wrap(lambda x: (x + 1, constant), options(deviceIterations=2))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result, same = executor(torch.zeros(2))
    assert result.tolist() == [1.0, 1.0]
    assert same.tolist() == [5.0]
    assert "Output expected to be on the IPU but is on cpu" in caplog.text


# ---- 2.3: structures ---------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Tensor
    second: Any


STRUCTURES: List[Callable[[Tensor], Any]] = [
    lambda x: (x, x + 1),
    lambda x: [x, [x + 1, (x + 2,)]],
    lambda x: {"a": x, "b": {"c": x + 1}},
    lambda x: OrderedDict(z=x, a=x + 1),
    lambda x: Pair(x, Pair(x + 1, "text")),
    lambda x: (x, None, 3, "text", 1.5),
    lambda x: defaultdict(list, a=x),
    lambda x: None,
]


@pytest.mark.parametrize("function", STRUCTURES)
def test_results_keep_their_structure(wrap: Wrap, function: Callable[[Tensor], Any]) -> None:
    x = torch.rand(2, 3)
    expected, result = function(x), wrap(function)(x)
    assert type(result) is type(expected)
    assert str(result) == str(expected)


@dataclass
class Hidden:
    value: Tensor


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: (x, [Hidden(x + 1)]), "Hidden"),
        (lambda x: {x + 1}, "set"),
        (lambda x: (row for row in x), "generator"),
    ],
)
def test_results_that_hide_tensors_are_refused(
    wrap: Wrap, function: Callable[[Tensor], Any], kind: str
) -> None:
    # 2.3: they would come back with the capture's tensors, which have no values
    executor = wrap(function)
    with pytest.raises(poptorch.Error, match=f"returned a {kind} .*registerCustomArgParser"):
        executor(torch.ones(2))
    assert not executor.isCompiled()


@dataclass
class Boxes:
    corners: Tensor
    names: List[str]
    scores: Tensor


class BoxesParser(poptorch.ICustomArgParser):
    def yieldTensors(self, struct: Boxes) -> Iterator[Tensor]:
        yield struct.corners
        yield struct.scores

    def reconstruct(self, original_structure: Boxes, tensor_iterator: Iterator[Tensor]) -> Boxes:
        corners = next(tensor_iterator)
        return Boxes(corners, original_structure.names, next(tensor_iterator))


@pytest.fixture
def boxes_parser() -> Iterator[None]:
    poptorch.registerCustomArgParser(Boxes, BoxesParser())
    yield
    poptorch.registerCustomArgParser(Boxes, None)


@pytest.mark.usefixtures("boxes_parser")
def test_a_registered_type_goes_in_and_comes_out() -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, boxes: Boxes) -> Tuple[Boxes, Tensor]:
            grown = Boxes(boxes.corners * 2, [*boxes.names, "grown"], boxes.scores)
            return grown, poptorch.identity_loss(self.weight * boxes.scores, "sum")

    chosen = options(deviceIterations=2).outputMode(poptorch.OutputMode.All)
    for make in (poptorch.inferenceModel, poptorch.trainingModel):
        given = Boxes(torch.ones(4, 2), ["a"], torch.arange(4.0))
        grown, losses = make(Grows(), chosen)(given)
        assert type(grown) is Boxes
        assert grown.names == ["a", "grown"]
        assert torch.equal(grown.corners, torch.full((4, 2), 2.0))
        assert grown.scores.tolist() == [0.0, 1.0, 2.0, 3.0]
        assert losses.shape == (2,)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("function", STRUCTURES)
def test_training_keeps_the_structure_as_well(
    function: Callable[[Tensor], Any], replicas: int
) -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Any:
            poptorch.identity_loss(self.weight * x, "sum")  # need not be returned
            return function(x)

    x = torch.rand(2 * replicas, 3)
    result = poptorch.trainingModel(Learns(), options(replicationFactor=replicas))(x)
    expected = function(x)
    assert type(result) is type(expected)
    assert str(result) == str(expected)


def test_0_d_results_get_a_dimension_when_there_are_several(wrap: Wrap) -> None:
    # 2.2: of any dtype
    kinds = [lambda x: x.sum(), lambda x: x.sum().long(), lambda x: x.sum() > 1]
    for function in kinds:
        one = wrap(function)(torch.ones(2))
        several = wrap(function, options(replicationFactor=2))(torch.ones(4))
        assert one.shape == ()
        assert several.shape == (2,)
        assert several.dtype == one.dtype
        assert several.tolist() == [one.item()] * 2


def test_results_do_not_change_with_the_next_call() -> None:
    class Counts(nn.Module):
        total: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.total.add_(x)
            return self.total

    executor = poptorch.inferenceModel(Counts())
    first = executor(torch.ones(1))
    executor(torch.ones(1))
    assert first.item() == 1.0


class Counter(nn.Module):
    """Counts in a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(1)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self) -> Tensor:
        self.count += 1
        return self.count

    def loss(self) -> Tensor:
        self.count += 1
        return poptorch.identity_loss(self.weight * self.count, "sum")


def test_an_attribute_counts_from_its_value_at_compile_in_each_run() -> None:
    # 2.7: a plain attribute is a constant; only buffers persist.
    model = Counter()
    executor = poptorch.inferenceModel(model)
    assert [executor().item() for _ in range(3)] == [1.0, 1.0, 1.0]
    assert model.count.item() == 0.0


def test_an_attribute_counts_from_its_value_at_compile_in_training_too() -> None:
    model = Counter()
    model.forward = model.loss  # type: ignore[method-assign]
    optimizer = poptorch.optim.SGD(model.parameters(), lr=0.25)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    assert [executor().item() for _ in range(3)] == [1.0, 0.75, 0.5]
