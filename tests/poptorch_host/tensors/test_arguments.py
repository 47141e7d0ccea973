"""Arguments are bound to `forward` and compared with the compiled ones in PopTorch's words."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, NamedTuple, Set, Tuple

import numpy as np
import pytest
import torch

import poptorch_host as poptorch
from poptorch_host.tensors.arguments import (
    Arguments,
    bind_arguments,
    compare_arguments,
    in_compiled_order,
    prepare_arguments,
)

ONE = torch.ones(2)


def forward(x: Any, y: Any = 5, *, scale: Any = 1.0) -> Any:
    return x, y, scale


def variadic(x: Any, *rest: Any, **named: Any) -> Any:
    return x, rest, named


def test_defaults_are_filled_in_and_keywords_become_positional() -> None:
    positional = bind_arguments(forward, (ONE, 5), {})
    by_name = bind_arguments(forward, (), {"x": ONE, "scale": 1.0})
    assert positional == by_name == Arguments((ONE, 5), {"scale": 1.0}, ("x", "y"))


def test_variadic_arguments_have_names_of_their_own() -> None:
    bound = bind_arguments(variadic, (1, 2, 3), {"k": 4})
    assert bound == Arguments((1, 2, 3), {"k": 4}, ("x", "rest[0]", "rest[1]"))


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "words"),
    [
        (forward, (1, 2, 3, 4), {}, r"Too many arguments provided: expected .* but got 4"),
        (forward, (1, 2, 3), {}, r"Too many arguments provided: expected \['x', 'y'\] \(2\)"),
        (forward, (1,), {"z": 1}, r"z is not a valid parameter\.Allowed values are \['x', 'y'"),
        (forward, (1, 2), {"y": 1}, "Parameter y was passed more than once"),
        (variadic, (1,), {"x": 1}, "Parameter x was passed more than once"),
    ],
)
def test_wrong_arguments_are_assertion_errors(
    function: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any], words: str
) -> None:
    # 2.4
    with pytest.raises(AssertionError, match=words):
        bind_arguments(function, args, kwargs)


def test_missing_argument_is_a_poptorch_error() -> None:
    with pytest.raises(poptorch.Error, match="Mandatory parameter x missing"):
        bind_arguments(forward, (), {"y": 1})


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (torch.ones(2), torch.ones(3), r"Shape mismatch for x: expected .*\[2\].* but got .*\[3\]"),
        (
            torch.ones(2),
            torch.ones(2, dtype=torch.int64),
            r"Data type mismatch for x: expected torch\.float32 but got torch\.int64",
        ),
        (5, 3, r"Value mismatch for x: expected 5 but got 3"),
        (5, 5.0, r"Type mismatch for x: expected .*int.* but got .*float"),
        (torch.ones(2), None, r"Type mismatch for x: expected .*Tensor.* but got .*NoneType"),
        ([1, 2], [1], r"Length mismatch for x: expected 2 elements but got 1"),
        ([1, (2, 3)], [1, (2, 4)], r"Value mismatch for x\[1\]\[1\]: expected 3 but got 4"),
        (Pair(1, 2), Pair(1, 3), r"Value mismatch for x\[1\]"),
        (
            {"a": 1, "b": 2},
            {"b": 2, "c": 1},
            r"Keys mismatch for x: Unexpected arguments: c\. Missing arguments: a\.",
        ),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, r"Value mismatch for x\[a\]\[b\]"),
    ],
)
def test_a_later_call_must_equal_the_first_in_all_but_values(
    first: object, second: object, words: str
) -> None:
    compiled = bind_arguments(forward, (first,), {})
    compare_arguments(compiled, bind_arguments(forward, (first,), {}))
    with pytest.raises(poptorch.Error, match=words) as raised:
        compare_arguments(compiled, bind_arguments(forward, (second,), {}))
    assert "destroy()" in str(raised.value)  # the hint


@pytest.mark.parametrize("value", [float("nan"), np.arange(3), (np.zeros(2), float("nan"))])
def test_values_without_plain_equality_are_compared_as_well(value: object) -> None:
    compiled = bind_arguments(forward, (copy.deepcopy(value),), {})
    compare_arguments(compiled, bind_arguments(forward, (copy.deepcopy(value),), {}))
    other = {float: 1.0, np.ndarray: np.arange(4), tuple: (np.ones(2), float("nan"))}[type(value)]
    with pytest.raises(poptorch.Error, match="Value mismatch for x"):
        compare_arguments(compiled, bind_arguments(forward, (other,), {}))


def test_mappings_are_put_into_the_compiled_order() -> None:
    # 2.4: keyword and positional may be mixed, so their order may differ as well
    compiled = bind_arguments(variadic, ([{"a": 1, "b": 2}],), {"c": 3, "d": 4})
    call = bind_arguments(variadic, ([{"b": 20, "a": 10}],), {"d": 40, "c": 30})
    ordered = in_compiled_order(compiled, call)
    assert list(ordered.args[0][0].items()) == [("a", 10), ("b", 20)]
    assert list(ordered.kwargs.items()) == [("c", 30), ("d", 40)]


def test_number_of_variadic_arguments_is_fixed() -> None:
    compiled = bind_arguments(variadic, (1, 2), {"a": 1})
    words = "Number of positional arguments mismatch: expected 2 arguments but got 3."
    with pytest.raises(poptorch.Error, match=words):
        compare_arguments(compiled, bind_arguments(variadic, (1, 2, 3), {"a": 1}))
    with pytest.raises(poptorch.Error, match=r"Keys mismatch for kwargs: Missing arguments: a\."):
        compare_arguments(compiled, bind_arguments(variadic, (1, 2), {}))


def test_inputs_become_contiguous_and_leave_autograd(caplog: pytest.LogCaptureFixture) -> None:
    strided = torch.arange(6.0).view(2, 3).t().requires_grad_()
    warned: Set[str] = set()
    given = bind_arguments(forward, ([strided], {"a": strided}), {})
    for _ in range(2):
        prepared = prepare_arguments(given, warned)
    tensor = prepared.args[0][0]
    assert tensor.is_contiguous()
    assert not tensor.requires_grad
    torch.testing.assert_close(tensor, strided.detach(), rtol=0, atol=0)
    assert caplog.text.count("not contiguous") == 1
    assert caplog.text.count("requires_grad") == 1
    assert caplog.text.count("Dicts as inputs only have partial support") == 1


def test_an_input_stays_the_same_object_where_nothing_is_to_do() -> None:
    prepared = prepare_arguments(bind_arguments(forward, (ONE,), {}), set())
    assert prepared.args[0] is ONE


def test_zero_sized_inputs_are_refused() -> None:
    words = r"Zero-sized tensors are unsupported \(Got shape \[0, 3\]\)"
    with pytest.raises(poptorch.Error, match=words):
        prepare_arguments(bind_arguments(forward, (torch.ones(0, 3),), {}), set())
