"""Blocks tell a capture where they begin and end, and leave the model alone otherwise."""

from __future__ import annotations

import copy
import pickle
from typing import Any, List, Optional, Tuple

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import _state


class Heard:
    """A capture that writes down what it is told."""

    def __init__(self) -> None:
        self.events: List[Tuple[object, ...]] = []
        self.numbers = 0

    def record(self, name: str) -> None:
        self.events.append(("op", name))

    def begin_block(self, user_id: Optional[str], ipu_id: Optional[int]) -> None:
        self.events.append(("begin", user_id, ipu_id))

    def end_block(self) -> None:
        self.events.append(("end",))

    def use_auto_id(self) -> None:
        self.events.append(("auto",))

    def next_auto_id(self) -> str:
        self.numbers += 1
        return str(self.numbers - 1)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_with_block_begins_and_ends() -> None:
    heard: Any = Heard()
    with _state.running(heard):
        poptorch.Block.useAutoId()
        with poptorch.Block("A", ipu_id=1):
            pass
        poptorch.Block.start("B", 2)
    assert heard.events == [("auto",), ("begin", "A", 1), ("end",), ("begin", "B", 2)]


def test_begin_block_returns_the_module_and_begins_when_it_is_called() -> None:
    model = net()
    layer = model[2]
    # 1.10: called by keyword, and the return value not assigned back.
    assert poptorch.BeginBlock(ipu_id=1, layer_to_call=layer, user_id="head") is layer
    heard: Any = Heard()
    with _state.running(heard):
        model(torch.ones(1, 2))
    assert heard.events == [("begin", "head", 1)]


def test_begin_block_wraps_a_function() -> None:
    module = poptorch.BeginBlock(torch.neg, "negate", 3)
    heard: Any = Heard()
    with _state.running(heard):
        assert module(torch.tensor(2.0)) == -2
    assert isinstance(module, nn.Module)
    assert heard.events == [("begin", "negate", 3)]


def test_block_function_runs_its_body_inside() -> None:
    class Net(nn.Module):
        @poptorch.BlockFunction("body", ipu_id=1)
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Negate."""
            return -x

    heard: Any = Heard()
    with _state.running(heard):
        assert Net()(torch.tensor(2.0)) == -2
    assert heard.events == [("begin", "body", 1), ("end",)]
    assert Net.forward.__doc__ == "Negate."


def test_outside_a_capture_blocks_do_nothing() -> None:
    model = net()
    expected = model(torch.ones(1, 2))
    poptorch.BeginBlock(model[0], ipu_id=1)
    with poptorch.Block("A"):
        poptorch.Block.useAutoId()
        torch.testing.assert_close(model(torch.ones(1, 2)), expected, rtol=0, atol=0)


def test_names_state_and_repr_stay_what_they_were() -> None:
    model = net()
    names, keys, text = list(dict(model.named_modules())), list(model.state_dict()), repr(model)
    poptorch.BeginBlock(model[2], "head", 1)
    assert list(dict(model.named_modules())) == names
    assert list(model.state_dict()) == keys
    assert repr(model) == text


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_their_blocks_and_can_lose_them_alone(duplicate: object) -> None:
    model = net()
    poptorch.BeginBlock(model[2], "head", 1)
    copied = duplicate(model)  # type: ignore[operator]  # one of the two above
    poptorch.removeBlocks(copied)
    heard: Any = Heard()
    unheard: Any = Heard()
    with _state.running(heard):
        model(torch.ones(1, 2))
    with _state.running(unheard):
        copied(torch.ones(1, 2))
    assert heard.events == [("begin", "head", 1)]
    assert unheard.events == []


def test_remove_blocks_keeps_other_hooks_and_allows_new_blocks() -> None:
    model = net()
    calls: List[int] = []
    model[2].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    poptorch.BeginBlock(model[2])
    poptorch.removeBlocks(model)
    poptorch.BeginBlock(model[2], "again")
    model(torch.ones(1, 2))
    assert calls == [1]


def test_a_module_begins_one_block_only() -> None:
    model = net()
    poptorch.BeginBlock(model[0])
    with pytest.raises(poptorch.Error, match=r"module has already been assigned to a block\."):
        poptorch.BeginBlock(model[0], "other")


def test_a_module_without_id_keeps_its_automatic_one() -> None:
    # 1.5: an id names a block, and all calls of one module are in one block.
    model = net()
    poptorch.BeginBlock(model[0])
    poptorch.BeginBlock(model[1], ipu_id=1)
    heard: Any = Heard()
    with _state.running(heard):
        for _ in range(2):
            model[0](torch.ones(1, 2))
            model[1](torch.ones(1, 2))
    assert heard.events == [("begin", "0", None), ("begin", "1", 1)] * 2


def test_both_ids_are_optional_and_the_ipu_alone_is_enough() -> None:
    heard: Any = Heard()
    with _state.running(heard):
        poptorch.Block.start(ipu_id=2)
        with poptorch.Block():
            pass
    assert heard.events == [("begin", None, 2), ("begin", None, None), ("end",)]


def test_what_is_no_module_and_no_function_is_refused() -> None:
    words = r"module is not an instance of torch\.nn\.Module or function\."
    with pytest.raises(poptorch.Error, match=words):
        poptorch.BeginBlock(3)  # type: ignore[arg-type]  # the mistake under test


def test_blocks_are_removed_from_modules_only() -> None:
    with pytest.raises(AssertionError, match="removeBlocks expects a module"):
        poptorch.removeBlocks([net()])  # type: ignore[arg-type]  # the mistake under test


def test_module_repr_marks_blocks() -> None:
    model = net()
    assert poptorch.module_repr(model) == repr(model)
    poptorch.BeginBlock(model[2], "head", 1)
    assert poptorch.module_repr(model) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): ReLU()\n"
        "  (2): BeginBlock(user_id=head, ipu_id=1)"
        " Linear(in_features=3, out_features=1, bias=True)\n"
        ")"
    )


def test_print_shows_modules_with_their_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    layer = poptorch.BeginBlock(nn.ReLU(), "A")
    poptorch.print(layer, 3, sep="|")
    assert capsys.readouterr().out == "BeginBlock(user_id=A, ipu_id=None) ReLU()|3\n"
