"""PopTorch's own operators compute plain PyTorch, and refuse in PopTorch's words."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import _state

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 21.0), ("mean", 3.5)])
def test_identity_loss_reduces(reduction: str, expected: float) -> None:
    assert poptorch.identity_loss(X, reduction).item() == expected


def test_identity_loss_without_reduction_is_a_copy() -> None:
    loss = poptorch.identity_loss(X, "none")
    assert loss is not X
    torch.testing.assert_close(loss, X, rtol=0, atol=0)
    with pytest.raises(AssertionError, match="Unsupported reduction type!"):
        poptorch.identity_loss(X, "max")


def test_identities_are_differentiable() -> None:
    x = X.clone().requires_grad_()
    y = poptorch.nop(poptorch.set_available_memory(x, 0.3))
    y = poptorch.ipu_print_tensor(poptorch.recomputationCheckpoint(y))
    poptorch.identity_loss(y, "sum").backward()  # type: ignore[no-untyped-call]  # torch
    torch.testing.assert_close(x.grad, torch.ones(2, 3), rtol=0, atol=0)


def test_checkpoint_returns_one_tensor_several_as_tuple_and_a_list_as_list() -> None:
    # 7.1
    y = X + 1
    assert poptorch.recomputationCheckpoint(X) is X
    assert poptorch.recomputationCheckpoint(X, y) == (X, y)
    assert poptorch.recomputationCheckpoint([X, y]) == [X, y]
    for wrong in ((X, 3), ([X, None],)):
        with pytest.raises(ValueError, match="All inputs must be tensors"):
            poptorch.recomputationCheckpoint(*wrong)


def test_available_memory_is_for_tensors_and_parts() -> None:
    words = r"You may only set available memory for torch\.tensor values\."
    with pytest.raises(poptorch.Error, match=words):
        poptorch.set_available_memory(3, 0.3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="from 0 to 1, got 30"):
        poptorch.set_available_memory(X, 30)


def test_serialized_matmul_is_matmul() -> None:
    w = torch.arange(12.0).view(3, 4)
    for mode, factor in (("InputChannels", 2), ("ReducingDim", 3), ("OutputChannels", 4)):
        kind = getattr(poptorch.MatMulSerializationMode, mode)
        torch.testing.assert_close(poptorch.serializedMatMul(X, w, kind, factor), X @ w)
        with pytest.raises(poptorch.Error, match="factor 5 must divide"):
            poptorch.serializedMatMul(X, w, kind, 5)
    disabled = poptorch.MatMulSerializationMode.Disabled
    torch.testing.assert_close(poptorch.serializedMatMul(X, w, disabled, 5), X @ w)


def test_dynamic_slice_and_update_by_hand() -> None:
    row = torch.arange(8.0).view(1, 8)
    start = torch.tensor([2])
    assert poptorch.dynamic_slice(row, 1, start, 4, 1).tolist() == [[2, 3, 4, 5]]
    assert poptorch.dynamic_slice(row, 1, start, 4, 2).tolist() == [[2, 4]]
    updated = poptorch.dynamic_update(row, -torch.ones(1, 2), 1, start, 2)
    assert updated.tolist() == [[0, 1, -1, -1, 4, 5, 6, 7]]
    assert row[0, 2] == 2  # the input stays
    with pytest.raises(poptorch.Error, match="3 does not divide 8"):
        poptorch.dynamic_slice(row, 1, start, 3, 1)
    with pytest.raises(poptorch.Error, match="src has 1 elements"):
        poptorch.dynamic_update(row, row[:, :1], 1, start, 2)


def test_overlap_is_an_identity_with_a_checked_mode() -> None:
    mode = poptorch.OverlapMode.OverlapDeviceIterationLoop
    structure = (X, [X])
    assert poptorch.set_overlap_for_input(structure, mode) is structure
    assert poptorch.set_overlap_for_output(structure, mode) is structure
    with pytest.raises(AssertionError, match="OverlapMode"):
        poptorch.set_overlap_for_input(X, "no_overlap")  # type: ignore[arg-type]  # the mistake


def test_print_writes_to_stderr_inside_an_executor_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert poptorch.ipu_print_tensor(X, "x") is X
    assert capsys.readouterr().err == ""
    with _state.running():
        poptorch.ipu_print_tensor(X, "x", digits=1)
        poptorch.ipu_print_tensor(torch.tensor([1, 2]), "i")
    assert capsys.readouterr().err == "x: {((1.0, 2.0, 3.0),\n (4.0, 5.0, 6.0))}\ni: {(1, 2)}\n"


def test_print_summarises_large_tensors_and_wraps_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _state.running():
        poptorch.ipu_print_tensor(torch.arange(9), "n", summarise_threshold=8, edge_items=2)
        poptorch.ipu_print_tensor(torch.arange(6), "w", max_line_width=10)
        poptorch.ipu_print_tensor(torch.tensor([1e7, 1.0]), "s", digits=2)
    lines = capsys.readouterr().err
    assert "n: {(0, 1, ..., 7, 8)}" in lines
    assert "w: {(0, 1, 2,\n 3, 4, 5)}" in lines
    assert "s: {(1.00e+07, 1.00e+00)}" in lines
    with pytest.raises(ValueError, match="float_format must be one of"):
        poptorch.ipu_print_tensor(X, float_format="hex")


# ---- control flow --------------------------------------------------------------------------------


def test_for_loop_applies_the_body_count_times() -> None:
    x, y = torch.tensor([1.0]), torch.tensor([10.0])
    result = poptorch.for_loop(3, lambda a, b: (a * 2, b + a), [x, y])
    assert isinstance(result, list)
    assert [value.item() for value in result] == [8, 10 + 1 + 2 + 4]


def test_for_loop_hides_what_its_body_writes_in_place() -> None:
    x = torch.tensor([1.0])
    (result,) = poptorch.for_loop(2, lambda a: a.add_(1), [x])
    assert (x.item(), result.item()) == (1, 3)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (X, r"\(Object is not list\)"),
        ([X, 3], r"\(Object contained in list at index 1 is not torch\.tensor\)"),
    ],
)
def test_for_loop_takes_a_list_of_tensors(inputs: Any, words: str) -> None:
    prefix = r"poptorch\.for_loop expects input tensors \(inputs\) to be a list of tensors\. "
    with pytest.raises(ValueError, match=prefix + words):
        poptorch.for_loop(1, lambda a: a, inputs)


def test_for_loop_body_must_keep_shapes() -> None:
    with pytest.raises(poptorch.Error, match=r"must be \['torch.float32 \(2, 3\)'\]"):
        poptorch.for_loop(1, lambda a: a[0], [X])


@pytest.mark.parametrize(("condition", "expected"), [(True, 2.0), (False, -1.0)])
def test_cond_takes_one_branch(condition: bool, expected: float) -> None:
    x = torch.tensor([1.0])
    result = poptorch.cond(torch.tensor(condition), lambda a: a * 2, [x], lambda a: -a, [x])
    assert [value.item() for value in result] == [expected]


def test_cpu_is_a_plain_call_outside_and_not_yet_inside_an_executor() -> None:
    layer = nn.Linear(3, 1)
    on_host = poptorch.CPU(layer, "readout")
    assert not layer.weight.requires_grad  # 1.6
    torch.testing.assert_close(on_host(X), layer(X))
    with _state.running(), pytest.raises(NotImplementedError, match=r"CPU.*'readout'.*outside"):
        on_host(X)


# ---- MultiConv -----------------------------------------------------------------------------------


def test_multi_conv_keeps_checked_settings_and_changes_nothing() -> None:
    conv = nn.Conv1d(1, 1, 1)
    x = torch.ones(1, 1, 4)
    hint = poptorch.MultiConv().availableMemoryProportions([0.1, 0.2]).partialsTypes(torch.half)
    hint.enableConvDithering(True).planType(poptorch.MultiConvPlanType.Serial)
    hint.perConvReservedTiles(120).cycleBackOff(0.3)
    with hint:
        result = conv(x)
    torch.testing.assert_close(result, conv(x), rtol=0, atol=0)
    assert hint.settings["availableMemoryProportions"] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda m: m.enableConvDithering(1), ValueError, "value must be bool or list of bools"),
        (lambda m: m.planType(0), AssertionError, "Invalid plan type!"),
        (lambda m: m.partialsTypes(torch.int32), AssertionError, "Invalid partialsTypes!"),
        (
            lambda m: m.availableMemoryProportions("x"),
            AssertionError,
            "Invalid availableMemoryProportions!",
        ),
        (lambda m: m.perConvReservedTiles(0.5), AssertionError, "Invalid perConvReservedTiles!"),
        (lambda m: m.cycleBackOff("x"), AssertionError, "Invalid cycleBackOff!"),
    ],
)
def test_multi_conv_refuses_other_values(
    call: Callable[[Any], object], kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words):
        call(poptorch.MultiConv())


# ---- not yet -------------------------------------------------------------------------------------

LATER: List[Callable[[], object]] = [
    lambda: poptorch.ctc_beam_search_decoder(X, X),
    lambda: poptorch.fps(X, [0, 2]),
    lambda: poptorch.nearest(X, X),
    lambda: poptorch.AsynchronousDataAccessor([X]),
    lambda: poptorch.accessAttributes("1"),
    lambda: poptorch.getIpuTensorId(X),
    lambda: poptorch.importPoptorchMetadataFromFile("model.poptorch"),
]


@pytest.mark.parametrize("call", LATER)
def test_what_is_missing_says_so(call: Callable[[], Tensor]) -> None:
    with pytest.raises(NotImplementedError, match=r"^poptorch\.\w+ .*poptorch_host"):
        call()
