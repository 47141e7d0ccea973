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


def test_leaving_an_inner_block_leaves_the_outer_one_as_well() -> None:
    # 1.6
    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with poptorch.Block("outer", ipu_id=0):
                with poptorch.Block("inner", ipu_id=0):
                    x = x + 1
                return x * 2

    with pytest.raises(poptorch.Error, match="No active Block"):
        poptorch.inferenceModel(Nested())(torch.rand(2))
    assert Nested()(torch.zeros(2)).tolist() == [2.0, 2.0]  # no executor, no blocks


def test_begin_block_and_start_never_close() -> None:
    # 1.5
    class Open(Split):
        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.first(x)) * 2  # still in the block of `second`
            poptorch.Block.start("end", ipu_id=1)
            return self.third(x) + 1  # type: ignore[no-any-return]

    model = Open()
    poptorch.BeginBlock(model.second, "middle", ipu_id=0)
    executor = poptorch.inferenceModel(model, pipelined())
    executor.compile(torch.rand(4, 4))
    stages = host.report(executor).stages
    assert [(stage.ipu, stage.blocks) for stage in stages] == [(0, ["middle"]), (1, ["end"])]


def test_a_module_that_is_called_twice_is_in_one_stage() -> None:
    class Twice(Split):
        def forward(self, x: Tensor) -> Tensor:
            return self.third(self.second(self.second(self.first(x))))  # type: ignore[no-any-return]

    model = Twice()
    poptorch.BeginBlock(model.second)
    poptorch.BeginBlock(model.third)
    increment = poptorch.PipelinedExecution(poptorch.AutoStage.AutoIncrement)
    executor = poptorch.inferenceModel(model, pipelined(increment))
    executor.compile(torch.rand(4, 4))
    stages = host.report(executor).stages
    assert [(stage.stage, stage.blocks) for stage in stages] == [(0, []), (1, ["0"]), (2, ["1"])]
    assert "BeginBlock(user_id=0, ipu_id=None) Linear" in repr(executor)


def test_automatic_ids_restart_where_forward_says_so() -> None:
    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            poptorch.Block.useAutoId()
            with poptorch.Block(ipu_id=0):
                x = x + 1
            with poptorch.Block("special", ipu_id=0):
                x = x * 2
            with poptorch.Block(ipu_id=1):
                return x - 3

    executor = poptorch.inferenceModel(Counted(), pipelined())
    executor.compile(torch.rand(4))
    stages = host.report(executor).stages
    assert [stage.blocks for stage in stages] == [["0", "special"], ["1"]]


def test_a_block_function_is_a_block_in_an_executor() -> None:
    class Decorated(Split):
        @poptorch.BlockFunction("body", ipu_id=0)
        def body(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))  # type: ignore[no-any-return]

        @poptorch.BlockFunction("head", ipu_id=1)
        def head(self, x: Tensor) -> Tensor:
            return self.third(x)  # type: ignore[no-any-return]

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    executor = poptorch.inferenceModel(Decorated(), pipelined())
    executor.compile(torch.rand(4, 4))
    assert [stage.blocks for stage in host.report(executor).stages] == [["body"], ["head"]]
