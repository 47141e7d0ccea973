"""Batches are cut and merged by PopTorch's arithmetic (2.1, 2.2)."""

from __future__ import annotations

from typing import Callable, List

import pytest
import torch
from torch import Tensor

import poptorch_host as poptorch
from poptorch_host.microbatch import block_of_input, make_plan, merge, returned

Wrap = Callable[..., poptorch.PoplarExecutor]


def options(iterations: int = 1, replicas: int = 1) -> poptorch.Options:
    return poptorch.Options().deviceIterations(iterations).replicationFactor(replicas)


def sums(x: Tensor) -> Tensor:
    """One number per micro-batch."""
    return x.sum()


# ---- 2.1: the way in ---------------------------------------------------------------------------


@pytest.mark.parametrize(("iterations", "replicas"), [(1, 1), (4, 1), (1, 2), (3, 2)])
def test_forward_sees_contiguous_micro_batches_in_order(
    wrap: Wrap, iterations: int, replicas: int
) -> None:
    count = iterations * replicas
    x = torch.arange(2.0 * count)
    shapes: List[torch.Size] = []

    def look(x: Tensor) -> Tensor:
        shapes.append(x.shape)
        return x.sum()

    result = wrap(look, options(iterations, replicas))(x)
    assert set(shapes) == {torch.Size([2])}
    expected = [float(4 * k + 1) for k in range(count)]  # 0+1, 2+3, 4+5, ...
    assert result.reshape(-1).tolist() == expected


def test_a_batch_that_does_not_divide_is_an_assertion_error(wrap: Wrap) -> None:
    with pytest.raises(AssertionError, match=r"^Invalid batch dimension: In the input"):
        wrap(sums, options(2))(torch.ones(3))


def test_a_scalar_is_a_batch_of_one(wrap: Wrap) -> None:
    assert wrap(lambda x: x + 1)(torch.tensor(1.0)).item() == 2.0
    with pytest.raises(AssertionError, match="Invalid batch dimension"):
        wrap(lambda x: x + 1, options(2))(torch.tensor(1.0))


def test_replicas_of_one_group_share_their_input(wrap: Wrap) -> None:
    for kind, expected in (
        (poptorch.CommGroupType.Consecutive, [1.0, 1.0, 2.0, 2.0]),
        (poptorch.CommGroupType.Orthogonal, [1.0, 2.0, 1.0, 2.0]),
    ):
        grouped = options(replicas=4).inputReplicaGrouping(2, kind)
        assert wrap(sums, grouped)(torch.tensor([1.0, 2.0])).tolist() == expected


def test_blocks_of_a_plan_go_to_replicas_in_turn() -> None:
    plan = make_plan(options(2, 4), training=False)
    assert [block_of_input(index, plan) for index in range(8)] == list(range(8))
    grouped = options(2, 4).inputReplicaGrouping(2, poptorch.CommGroupType.Consecutive)
    plan = make_plan(grouped, training=False)
    assert [block_of_input(index, plan) for index in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]


# ---- 2.2: the way out --------------------------------------------------------------------------

MODES = [
    # iterations, replicas, mode, period, what comes back for micro-batches 1, 2, 3, ...
    (4, 1, poptorch.OutputMode.All, None, [1, 2, 3, 4]),
    (4, 1, poptorch.OutputMode.Final, None, 4),
    (4, 1, poptorch.OutputMode.EveryN, 2, [2, 4]),
    (4, 1, poptorch.OutputMode.EveryN, 4, 4),
    (4, 1, poptorch.OutputMode.Sum, None, 10),
    (2, 2, poptorch.OutputMode.All, None, [1, 2, 3, 4]),
    (2, 2, poptorch.OutputMode.Final, None, [3, 4]),
    (2, 2, poptorch.OutputMode.Sum, None, [1 + 3, 2 + 4]),
    (4, 2, poptorch.OutputMode.EveryN, 2, [3, 4, 7, 8]),
    (1, 1, poptorch.OutputMode.All, None, 1),
]


@pytest.mark.parametrize(("iterations", "replicas", "mode", "period", "expected"), MODES)
def test_scalars_come_back_by_output_mode(
    wrap: Wrap,
    iterations: int,
    replicas: int,
    mode: poptorch.OutputMode,
    period: int,
    expected: object,
) -> None:
    chosen = options(iterations, replicas).outputMode(mode, period)
    x = torch.arange(1.0, 1 + iterations * replicas)
    assert wrap(sums, chosen)(x).tolist() == expected


def test_tensors_grow_along_their_first_dimension(wrap: Wrap) -> None:
    x = torch.arange(12.0).reshape(6, 2)
    result = wrap(lambda x: x * 2, options(3))(x)
    assert torch.equal(result, 2 * x)
    final = options(3).outputMode(poptorch.OutputMode.Final)
    assert torch.equal(wrap(lambda x: x * 2, final)(x), 2 * x[4:])
    total = options(3).outputMode(poptorch.OutputMode.Sum)
    assert torch.equal(wrap(lambda x: x * 2, total)(x), 2 * (x[:2] + x[2:4] + x[4:]))


def test_other_modes_than_all_are_announced(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="poptorch::python"):
        wrap(sums, options(2).outputMode(poptorch.OutputMode.Final))
    assert "output mode of an inferenceModel is OutputMode.Final, not All" in caplog.text


def test_the_last_step_of_every_period_is_returned() -> None:
    plan = make_plan(options(4, 2).outputMode(poptorch.OutputMode.EveryN, 2), training=False)
    assert [index for index in range(8) if returned(index, plan)] == [2, 3, 6, 7]


def test_merged_results_are_plain_contiguous_tensors() -> None:
    plan = make_plan(options(2), training=False)
    outputs = [torch.rand(1, 3, 2, 2).to(memory_format=torch.channels_last) for _ in range(2)]
    merged = merge(outputs, plan)
    assert merged.is_contiguous()
    assert torch.equal(merged, torch.cat(outputs))
    assert merge([torch.tensor([1])] * 2, plan).dtype == torch.int32
