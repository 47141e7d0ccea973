"""Blocks become stages and IPUs as PopTorch's strategies place them."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple

import pytest

import poptorch_host as poptorch
from poptorch_host.blocks.stage_resolver import StageResolver, pipeline_stages
from poptorch_host.blocks.strategies import ExecutionStrategy

Blocks = List[Tuple[Optional[str], Optional[int]]]


def places(strategy: ExecutionStrategy, blocks: Blocks) -> List[Tuple[Optional[str], int, int]]:
    resolver = StageResolver(strategy)
    begun = [resolver.begin(user_id, ipu_id) for user_id, ipu_id in blocks]
    return [(placement.block_id, placement.stage, placement.ipu) for placement in begun]


def test_before_any_block_everything_is_on_stage_and_ipu_0() -> None:
    current = StageResolver(poptorch.PipelinedExecution()).current()
    assert (current.block_id, current.stage, current.phase, current.ipu) == (None, 0, 0, 0)


def test_without_arguments_the_stage_is_the_ipu() -> None:
    blocks: Blocks = [("A", 0), ("B", 2), (None, 1), ("A", 3)]
    # 1.5: blocks with the same user_id keep the first stage.
    assert places(poptorch.PipelinedExecution(), blocks) == [
        ("A", 0, 0),
        ("B", 2, 2),
        ("0", 1, 1),
        ("A", 0, 3),
    ]


def test_same_as_ipu_needs_an_ipu() -> None:
    with pytest.raises(
        AssertionError,
        match=r"poptorch\.AutoStage\.SameAsIpu was selected but no IPU was specified for block 0",
    ):
        places(poptorch.ShardedExecution(), [(None, None)])


def test_auto_increment_counts_new_blocks_from_1() -> None:
    strategy = poptorch.PipelinedExecution(poptorch.AutoStage.AutoIncrement)
    blocks: Blocks = [("A", None), (None, 0), ("A", None), (None, None)]
    # 1.5: stage 0 is what runs before the first block; without ipu_id the IPU is the stage.
    assert places(strategy, blocks) == [("A", 1, 1), ("0", 2, 0), ("A", 1, 1), ("1", 3, 3)]


def test_automatic_ids_count_blocks_without_id_and_restart() -> None:
    resolver = StageResolver(poptorch.PipelinedExecution("0", "x", "1"))
    ids = [resolver.begin(user_id, None).block_id for user_id in (None, "x", None)]
    resolver.use_auto_id()
    assert [*ids, resolver.begin(None, None).block_id] == ["0", "x", "1", "0"]


def test_an_id_or_a_list_of_ids_is_a_stage_on_the_ipu_of_its_position() -> None:
    strategy = poptorch.PipelinedExecution("A", ["B", "C"], poptorch.Stage("D").ipu(7))
    blocks: Blocks = [("A", 5), ("B", 5), ("C", None), ("D", 5)]
    assert places(strategy, blocks) == [("A", 0, 0), ("B", 1, 1), ("C", 1, 1), ("D", 2, 7)]


def test_a_stage_without_ipu_takes_the_block_s_and_else_its_number() -> None:
    strategy = poptorch.ShardedExecution(poptorch.Stage("A"), poptorch.Stage("B"))
    assert places(strategy, [("A", 3), ("B", None)]) == [("A", 0, 3), ("B", 1, 1)]


def test_stage_of_a_block_can_be_moved() -> None:
    strategy = poptorch.PipelinedExecution("A", "B")
    assert strategy.stage("B").ipu(4).blocks == ["B"]
    assert places(strategy, [("B", None)]) == [("B", 1, 4)]


def test_unlisted_block_is_refused_with_those_listed() -> None:
    words = r"Unknown Block 'C' list of expected Blocks: \['A', 'B'\]"
    with pytest.raises(AssertionError, match=words):
        places(poptorch.PipelinedExecution("A", "B"), [("C", None)])


def test_leaving_a_with_block_leaves_all_blocks() -> None:
    resolver = StageResolver(poptorch.PipelinedExecution("outer", "inner"))
    resolver.begin("outer", None)
    resolver.begin("inner", None)
    resolver.end()
    # 1.6: still inside the outer one, and no block is active.
    assert resolver.active is None
    with pytest.raises(poptorch.Error, match="No active Block, all the ops must belong to a Block"):
        resolver.current()
    assert resolver.begin("inner", None).stage == 1


def test_phases_have_stages_of_their_own() -> None:
    strategy = poptorch.SerialPhasedExecution(
        ["A", "B"], poptorch.Phase(poptorch.Stage("C"), poptorch.Stage("D", "E"))
    )
    strategy.phase(1).ipus(2, 3)
    resolver = StageResolver(strategy)
    begun = [resolver.begin(block_id, None) for block_id in "ABCDE"]
    assert [(p.phase, p.stage, p.ipu) for p in begun] == [
        (0, 0, 0),
        (0, 0, 0),
        (1, 0, 2),
        (1, 1, 3),
        (1, 1, 3),
    ]
    assert strategy.phase(1).stage(1).blocks == ["D", "E"]


def test_a_phase_is_one_stage_of_blocks_or_a_list_of_stages() -> None:
    assert [stage.blocks for stage in poptorch.Phase("A", "B").stages] == [["A", "B"]]
    assert [stage.blocks for stage in poptorch.Phase(["A", "B"]).stages] == [["A", "B"]]
    listed = poptorch.Phase([poptorch.Stage("A"), poptorch.Stage("B")])
    assert [stage.blocks for stage in listed.stages] == [["A"], ["B"]]
    assert [stage.ipu_id for stage in listed.ipus(3, 1).stages] == [3, 1]


@pytest.mark.parametrize("kind", [poptorch.SerialPhasedExecution, poptorch.ParallelPhasedExecution])
def test_phases_may_be_given_as_one_list(kind: Any) -> None:  # 1.5
    phases = [poptorch.Phase(poptorch.Stage("A"), poptorch.Stage("B")), poptorch.Phase("C")]
    strategy = kind(phases)
    strategy.phase(0).ipus(0, 2)
    assert [strategy.phase(number) for number in (0, 1)] == phases
    assert strategy.stage("B").ipu_id == 2


def test_strategies_tell_the_backend_their_mode() -> None:
    assert poptorch.PipelinedExecution("A").backendOptions()["execution_mode"] == 0
    assert poptorch.ShardedExecution("A").backendOptions()["execution_mode"] == 1
    serial = poptorch.SerialPhasedExecution("A").useSeparateBackwardPhase(True)
    serial.setTensorsLiveness(poptorch.Liveness.OffChipAfterEachPhase)
    assert serial.backendOptions() == {
        "execution_mode": 2,
        "separate_backward_phase": True,
        "tensors_liveness": 3,
        "serial_phases_execution": True,
    }
    parallel = poptorch.ParallelPhasedExecution("A").sendTensorsOffChipAfterFwd(True)
    assert parallel.backendOptions()["tensors_liveness"] == 1
    assert parallel.backendOptions()["serial_phases_execution"] is False


untyped: Any = poptorch  # for mistakes that mypy would find


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: untyped.Stage(1), "Block IDs are supposed to be strings but got"),
        (lambda: untyped.PipelinedExecution(["A", 2]), "Block IDs are supposed to be strings"),
        (lambda: untyped.PipelinedExecution(2), "Block IDs are supposed to be strings"),
        (lambda: untyped.Stage("A").ipu("0"), "must be an int"),
        (lambda: untyped.PipelinedExecution("A", ["B", "A"]), "A associated with more than one"),
        (lambda: untyped.PipelinedExecution("A").stage("B"), "Unknown block B"),
        (
            lambda: untyped.PipelinedExecution(untyped.AutoStage.SameAsIpu, "A"),
            "must be the only argument",
        ),
        (lambda: untyped.SerialPhasedExecution(), "no AutoStage"),
        (
            lambda: untyped.ParallelPhasedExecution(untyped.AutoStage.AutoIncrement),
            "no AutoStage",
        ),
        (lambda: untyped.SerialPhasedExecution("A").phase(1), "Invalid phase 1"),
        (lambda: untyped.SerialPhasedExecution("A").phase(0).ipus(0, 1), "expected 1, got 2"),
    ],
)
def test_misuse_is_an_assertion_error(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        make()


@pytest.mark.parametrize(
    ("ipus", "stages"),
    [
        ([], 1),
        ([0], 1),
        ([0, 0, 1], 2),  # 2.12: neighbours on one IPU merge
        ([0, 1, 0], 3),  # 7.13
        ([1, 2], 3),  # 2.12: a first block elsewhere than IPU 0 counts
    ],
)
def test_a_pipeline_counts_changes_of_ipu(ipus: List[int], stages: int) -> None:
    resolver = StageResolver(poptorch.PipelinedExecution(poptorch.AutoStage.AutoIncrement))
    for ipu in ipus:
        resolver.begin(None, ipu)
    assert pipeline_stages(resolver.placements) == stages
