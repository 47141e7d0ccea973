"""Claims about two stages on two ranks; every rank makes them. The last one ends the job."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host
from tests.poptorch_host.ranks.programs.staged_net import Case, check_equal

RANK = int(os.environ["RANK"])


def claim_training_is_that_of_one_process() -> None:
    """2.1, 2.2, 2.7, 2.8, 2.12: every mode and reduction, both schedules."""
    mode = poptorch.OutputMode
    check_equal(Case((0, 1, 1)), "1f1b", "gpipe")
    check_equal(Case((0, 1, 1), optimizer="adam", mode=mode.Final), "gpipe")
    check_equal(Case((0, 0, 1), mode=mode.EveryN, period=7, reduction="Sum"), "1f1b")
    check_equal(Case((0, 1, 1), mode=mode.Sum, running=True, sharded=True), "1f1b")


def claim_replicas_without_stages_are_data_parallel() -> None:
    """2.14."""
    check_equal(Case((0, 0, 0), replicas=2, optimizer="adam"), "1f1b")


def claim_other_numbers_of_ranks_are_refused() -> None:
    """The three numbers are named."""
    words = "2 stages and 2 replicas .*take 4 ranks, one each, but this run has 2"
    with pytest.raises(poptorch.Error, match=words):
        check_equal(Case((0, 1, 1), replicas=2), "1f1b")


def claim_what_one_process_alone_can_do_is_refused() -> None:
    """On every rank, naming what would do."""
    anchored = poptorch.Options().deviceIterations(2)
    anchored.anchorTensor("first", "first")
    with pytest.raises(poptorch.Error, match=r"anchorTensor: .* run it in one process"):
        poptorch.inferenceModel(Scale(), anchored)(torch.ones(2))
    model = nn.Linear(1, 1)
    grouped = poptorch.inferenceModel(model, poptorch.Options().replicationFactor(2))
    grouped.model.weight.data = torch.ones(2, 1, 1)
    grouped.weight.replicaGrouping(
        poptorch.CommGroupType.NoGrouping, 0, poptorch.VariableRetrievalMode.OnePerGroup
    )
    with pytest.raises(poptorch.Error, match=r"replicaGrouping of \['weight'\] .*sequential"):
        grouped(torch.ones(2, 1))


def claim_ranks_agree_before_they_meet() -> None:
    """A rank that reads weights alone is told, and so are the others; then they go on."""
    model = Scale()
    optimizer = poptorch.optim.SGD(model.parameters(), lr=1.0)
    executor = poptorch.trainingModel(model, _options(), optimizer)
    executor(torch.ones(3))
    words = "rank 0 reads weights of Scale .*, but rank 1 calls Scale .*: .*do this on every rank"
    with pytest.raises(poptorch.Error, match=words):
        model.first.item() if RANK == 0 else executor(torch.ones(3))
    assert model.first.item() == -1.0  # 2 - d(first * second * 1)/d(first) = 2 - 3
    assert model.second.item() == 1.0


def claim_weights_are_those_of_rank_zero() -> None:
    """Programs that draw weights without a seed still train one model."""
    model = Scale()
    with torch.no_grad():
        model.first.fill_(10.0 + RANK)
        model.second.fill_(5.0 + RANK)
    executor = poptorch.inferenceModel(model, poptorch.Options().deviceIterations(2))
    assert executor(torch.ones(2)).tolist() == [50.0, 50.0]
    assert (model.first.item(), model.second.item()) == (10.0, 5.0)


def claim_random_numbers_are_those_of_rank_zero() -> None:
    """2.6: without a seed ranks draw one for all."""
    model = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    for ipu, layer in enumerate(model):
        poptorch.BeginBlock(layer, ipu_id=ipu)
    executor = poptorch.inferenceModel(model, poptorch.Options().deviceIterations(2))
    drawn = executor(torch.ones(64))
    everywhere: List[Tensor] = [torch.empty_like(drawn) for _ in range(2)]
    torch.distributed.all_gather(everywhere, drawn)
    assert torch.equal(*everywhere)


def claim_sequential_runs_the_whole_model_on_each_rank() -> None:
    """Alone: nobody waits for anybody."""
    host.configure(schedule="sequential")
    executor = poptorch.inferenceModel(Scale(), poptorch.Options().deviceIterations(2))
    assert executor(torch.full((2,), RANK + 1.0)).tolist() == [6.0 * (RANK + 1)] * 2
    host.configure(schedule="auto")


def claim_an_error_of_a_stage_comes_out_as_it_is() -> None:
    """And ends the job: the other rank waits for what never comes."""
    host.register_custom_op("test", "Refuse", _refuse)
    model = Scale(refuses=True)
    executor = poptorch.inferenceModel(model, poptorch.Options().deviceIterations(2))
    _told["fail"] = True
    executor(torch.ones(2))


class Scale(nn.Module):
    """x * first on one stage, * second on the next; loss is the mean."""

    def __init__(self, refuses: bool = False) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor(2.0))
        self.second = nn.Parameter(torch.tensor(3.0))
        self.refuses = refuses

    def forward(self, x: Tensor) -> Tensor:
        """(B,) -> (B,), or () in training."""
        poptorch.Block.start(ipu_id=0)
        x = x * self.first
        poptorch.Block.start(ipu_id=1)
        if self.refuses:
            (x,) = poptorch.custom_op([x], "Refuse", "test", 1, example_outputs=[x])
        x = x * self.second
        return poptorch.identity_loss(x, "mean") if self.training and not self.refuses else x


_told: Dict[str, bool] = {}


def _refuse(inputs: List[Tensor], attributes: Dict[str, Any]) -> List[Tensor]:
    if _told:
        raise ValueError("this operator has had enough")
    return [inputs[0].clone()]


def _options() -> poptorch.Options:
    options = poptorch.Options()
    options.Training.gradientAccumulation(3)
    return options


if __name__ == "__main__":
    torch.set_num_threads(1)
    claims: Tuple[str, ...] = tuple(name for name in globals() if name.startswith("claim_"))
    for name in claims:
        print(f"rank {RANK}: {name}", flush=True)
        globals()[name]()
