"""Batches are cut and merged by PopTorch's arithmetic (2.1, 2.2)."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host.tensors.microbatch import block_of_input, make_plan, merge, returned

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


# ---- 2.1: what an error says -------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_that_does_not_divide_names_shape_and_factors(training: bool) -> None:
    chosen = options(2, 4).inputReplicaGrouping(2, poptorch.CommGroupType.Consecutive)
    factors = r".*deviceIterations\(2\).*replicationFactor\(4\).*input_group_size=2"
    if training:
        chosen.Training.gradientAccumulation(3)
        factors += r".*gradientAccumulation\(3\) = 12"
        executor = poptorch.trainingModel(Weighted(), chosen)
    else:
        factors += r".* = 4"
        executor = poptorch.inferenceModel(nn.Flatten(), chosen)
    words = (
        r"^Invalid batch dimension: In the input torch\.Size\(\[6, 5\]\), the batch dimension \(6\)"
        + factors
        + r".*see the batching semantics page$"
    )
    with pytest.raises(AssertionError, match=words):
        executor(torch.ones(6, 5))
    assert not executor.isCompiled()


def test_another_batch_size_is_a_shape_mismatch_even_if_it_divides(wrap: Wrap) -> None:
    executor = wrap(sums, options(2))
    executor(torch.ones(4))
    with pytest.raises(poptorch.Error, match="Shape mismatch for x"):
        executor(torch.ones(8))


# ---- 2.2: every factor -------------------------------------------------------------------------


class Weighted(nn.Module):
    """Returns its input, its sum, and a loss; the weight plays no part in the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        return x * 1, x.sum(), poptorch.identity_loss(self.weight * x, "sum")


FACTORS = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 4), (3, 2, 2)]
MODE_NAMES = ["All", "Final", "Sum", "EveryN"]


@pytest.mark.parametrize(("iterations", "accumulation", "replicas"), FACTORS)
@pytest.mark.parametrize("name", MODE_NAMES)
def test_training_outputs_by_mode_and_factors(
    name: str, iterations: int, accumulation: int, replicas: int
) -> None:
    # By the definition: sample block k is micro-step k // R on replica k mod R.
    steps = iterations * accumulation
    period = steps if name == "EveryN" else None
    chosen = options(iterations, replicas).outputMode(poptorch.OutputMode[name], period)
    chosen.Training.gradientAccumulation(accumulation)
    x = torch.arange(1.0, 1 + 4 * steps * replicas).reshape(-1, 2)  # two rows a micro-batch
    got, total, _ = poptorch.trainingModel(Weighted(), chosen)(x)

    blocks = [x[2 * k : 2 * k + 2] for k in range(steps * replicas)]
    by_step = [blocks[step * replicas : (step + 1) * replicas] for step in range(steps)]
    kept: Any = {
        "All": blocks,
        "Final": by_step[-1],
        "EveryN": by_step[-1],
        "Sum": [sum(step[r] for step in by_step) for r in range(replicas)],
    }[name]
    factor = {"All": steps * replicas}.get(name, replicas)
    assert len(kept) == factor
    assert torch.equal(got, torch.cat(kept))
    expected = torch.stack([torch.as_tensor(block).sum() for block in kept])
    assert torch.equal(total, expected if factor > 1 else expected[0])
    assert total.shape == ((factor,) if factor > 1 else ())


def test_a_period_that_no_call_reaches_is_refused(wrap: Wrap) -> None:
    chosen = options(2).outputMode(poptorch.OutputMode.EveryN, 3)
    with pytest.raises(poptorch.Error, match=r"EveryN, 3\) returns nothing.*2 micro-batches"):
        wrap(sums, chosen)(torch.ones(2))
