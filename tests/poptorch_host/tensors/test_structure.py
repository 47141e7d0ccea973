"""Nested tensors come out in order and go back into the same nesting."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from typing import Any, Iterator, List

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch
from poptorch_host.tensors.structure import flatten, map_tensors, other_values, rebuild

Point = namedtuple("Point", ["x", "y"])


class Rows(List[Any]):
    """A list of the user's own."""


@dataclass
class Boxes:
    corners: Tensor
    size: int


class BoxesParser(poptorch.ICustomArgParser):
    def yieldTensors(self, struct: Boxes) -> Iterator[Tensor]:
        yield struct.corners

    def reconstruct(self, original_structure: Boxes, tensor_iterator: Iterator[Tensor]) -> Boxes:
        return Boxes(next(tensor_iterator), original_structure.size)


def numbers(*values: float) -> List[Tensor]:
    return [torch.tensor(value) for value in values]


def test_tensors_come_depth_first_in_insertion_order() -> None:
    one, two, three, four = numbers(1, 2, 3, 4)
    structure = {"b": (one, [two, "text"]), "a": Point(three, None), "c": four}
    assert flatten(structure) == [one, two, three, four]


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: (a, [b, 3]),
        lambda a, b: [a, {"k": b}, None],
        lambda a, b: OrderedDict([("z", a), ("a", b)]),
        lambda a, b: Point(a, Point(b, "text")),
        lambda a, b: Rows([a, Rows([b])]),
        lambda a, b: defaultdict(list, a=a, b=b),
    ],
)
def test_rebuild_undoes_flatten_with_the_same_types(make: Any) -> None:
    # 2.3
    structure, other = make(*numbers(1, 2)), make(*numbers(3, 4))
    rebuilt = rebuild(structure, iter(numbers(3, 4)))
    assert rebuilt == other
    assert type(rebuilt) is type(structure)
    doubled = map_tensors(structure, lambda tensor: tensor + 2)
    assert doubled == other


def test_other_values_are_those_between_the_tensors() -> None:
    boxes = Boxes(torch.ones(4), 7)
    structure = (torch.ones(1), {"a": [None, "text"]}, Point(3, boxes))
    assert other_values(structure) == [None, "text", 3, boxes]


def test_a_registered_type_is_taken_apart_by_its_parser() -> None:
    structure = [Boxes(torch.ones(4), 7)]
    assert flatten(structure) == []  # 2.3: a dataclass needs a parser
    poptorch.registerCustomArgParser(Boxes, BoxesParser())
    try:
        assert len(flatten(structure)) == 1
        moved = map_tensors(structure, lambda tensor: tensor + 1)
        assert moved[0].size == 7
        torch.testing.assert_close(moved[0].corners, torch.full((4,), 2.0))
    finally:
        poptorch.registerCustomArgParser(Boxes, None)
    assert flatten(structure) == []


def test_a_parser_must_be_one() -> None:
    with pytest.raises(poptorch.Error, match="arg_parser must inherit from ICustomArgParser"):
        poptorch.registerCustomArgParser(Boxes, object())  # type: ignore[arg-type]  # the mistake
