"""Blocks become stages at capture and change no result (1.5, 2.10, 2.12)."""

from __future__ import annotations

from typing import Optional

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host


class Split(nn.Module):
    """Three linear layers, 4 -> 8 -> 8 -> 2."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 8)
        self.third = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.third(self.second(self.first(x).relu()).relu())
        return result


def pipelined(
    strategy: Optional[object] = None, iterations: int = 4, round_ipus: bool = True
) -> poptorch.Options:
    options = poptorch.Options().deviceIterations(iterations).autoRoundNumIPUs(round_ipus)
    if strategy is not None:
        options.setExecutionStrategy(strategy)  # type: ignore[arg-type]
    return options


def test_stages_hold_their_operators_parameters_and_outputs() -> None:
    model = Split()
    poptorch.BeginBlock(model.second, "middle", ipu_id=1)
    poptorch.BeginBlock(model.third, "end", ipu_id=2)
    executor = poptorch.inferenceModel(model, pipelined())
    executor.compile(torch.rand(12, 4))
    first, second, third = host.report(executor).stages
    assert [stage.ipu for stage in (first, second, third)] == [0, 1, 2]
    assert [stage.blocks for stage in (first, second, third)] == [[], ["middle"], ["end"]]
    # weights and biases in float32
    assert first.parameter_bytes == (4 * 8 + 8) * 4
    assert second.parameter_bytes == (8 * 8 + 8) * 4
    assert third.parameter_bytes == (8 * 2 + 2) * 4
    assert first.outputs == [(3, 8)]
    assert second.outputs == [(3, 8)]
    assert third.outputs == []
    total = sum(stage.operators for stage in (first, second, third))
    assert total == sum(host.report(executor).operators.values())
    assert "stage 1 on IPU 1" in host.report(executor).render()


@pytest.mark.parametrize(
    "strategy",
    [
        poptorch.PipelinedExecution("a", "b"),
        poptorch.ShardedExecution("a", "b"),
        poptorch.SerialPhasedExecution("a", "b"),
        poptorch.PipelinedExecution(poptorch.Stage("a").ipu(0), poptorch.Stage("b").ipu(1)),
    ],
)
def test_splits_change_no_result(strategy: object) -> None:
    x = torch.rand(8, 4)
    expected = poptorch.inferenceModel(Split(), pipelined())(x)
    model = Split()
    poptorch.BeginBlock(model.first, "a")
    poptorch.BeginBlock(model.third, "b")
    result = poptorch.inferenceModel(model, pipelined(strategy))(x)
    assert torch.equal(result, expected)
    torch.testing.assert_close(result, model(x).detach())


def test_a_pipeline_needs_as_many_iterations_as_stages() -> None:
    model = Split()
    poptorch.BeginBlock(model.second, ipu_id=1)
    with pytest.raises(poptorch.Error, match=r"deviceIterations must be .* stages \(2\)"):
        poptorch.inferenceModel(model, pipelined(iterations=1))(torch.rand(1, 4))
    sharded = pipelined(poptorch.ShardedExecution(poptorch.AutoStage.SameAsIpu), iterations=1)
    assert poptorch.inferenceModel(model, sharded)(torch.rand(1, 4)).shape == (1, 2)


def test_the_number_of_ipus_is_a_power_of_two_of_at_most_64() -> None:
    model = Split()
    poptorch.BeginBlock(model.second, ipu_id=2)
    message = "specifies the use of 3 IPUs, however PopTorch must reserve a minimum of 4"
    with pytest.raises(poptorch.Error, match=message + r"[\s\S]*autoRoundNumIPUs\(True\)"):
        poptorch.inferenceModel(model, pipelined(round_ipus=False))(torch.rand(4, 4))
    many = pipelined().replicationFactor(32)
    with pytest.raises(poptorch.Error, match=r"Too many IPUs requested \(96\)"):
        poptorch.inferenceModel(model, many)(torch.rand(128, 4))


def test_an_operator_outside_every_block_is_refused_with_its_line() -> None:
    class Leaves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with poptorch.Block("inside", ipu_id=0):
                x = x + 1
            return x * 2

    with pytest.raises(poptorch.Error, match="No active Block, all the ops must belong") as caught:
        poptorch.inferenceModel(Leaves())(torch.rand(2))
    assert __file__ in str(caught.value)


def test_results_and_views_need_no_block() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with poptorch.Block("inside", ipu_id=0):
                x = x + 1
            return x.reshape(2, 2).transpose(0, 1)

    result = poptorch.inferenceModel(Views())(torch.zeros(4))
    assert result.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_an_unlisted_block_is_an_assertion_error() -> None:
    model = Split()
    poptorch.BeginBlock(model.second, "other")
    with pytest.raises(AssertionError, match="Unknown Block 'other' list of expected Blocks"):
        poptorch.inferenceModel(model, pipelined(poptorch.PipelinedExecution("a")))(
            torch.rand(4, 4)
        )


def test_blocks_do_nothing_outside_an_executor() -> None:
    model = Split()
    x = torch.rand(2, 4)
    expected = model(x)
    poptorch.BeginBlock(model.second, "b")
    assert torch.equal(model(x), expected)
