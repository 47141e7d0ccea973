"""PopTorch's marks on tensors change nothing but the loss, and refuse in PopTorch's words."""

from __future__ import annotations

import pytest
import torch

import poptorch_host as poptorch

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


def test_nop_is_for_tensors() -> None:
    # 1.6
    assert poptorch.nop(X) is X
    with pytest.raises(poptorch.Error, match=r"nop must take a torch\.tensor argument"):
        poptorch.nop([X])  # type: ignore[arg-type]  # the mistake
