"""Stages, replicas and instances on several ranks. The claims stand in `programs/`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host.engine.gradients import Gradients
from poptorch_host.ranks import ranks
from poptorch_host.ranks.bundle import pack, size_of, unpack
from poptorch_host.tensors import microbatch

TorchRun = Callable[..., "subprocess.CompletedProcess[str]"]
Configure = Callable[..., object]

PROGRAMS = Path(__file__).parent / "programs"
PIPELINES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14)
needs_pipelines = pytest.mark.skipif(
    not PIPELINES, reason="needs torch.distributed.pipelining as in torch 2.14"
)


@needs_pipelines
def test_two_stages_on_two_ranks_are_one_process(torchrun: TorchRun) -> None:
    result = torchrun(2, PROGRAMS / "two_ranks.py")
    last = "claim_an_error_of_a_stage_comes_out_as_it_is"
    for rank in range(2):
        assert f"rank {rank}: {last}" in result.stdout, result.stdout
    assert "ValueError: this operator has had enough" in result.stdout, result.stdout
    assert "failed to run forward" not in result.stdout  # torch's words around it
    assert result.returncode == 1


@needs_pipelines
def test_four_ranks_are_one_process(torchrun: TorchRun) -> None:
    result = torchrun(4, PROGRAMS / "four_ranks.py")
    assert result.stdout.count("all claims hold") == 4, result.stdout


def test_instances_learn_as_replicas_do(torchrun: TorchRun) -> None:  # 2.8, 2.14
    result = torchrun(2, PROGRAMS / "instances.py")
    assert result.stdout.count("all claims hold") == 2, result.stdout


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_a_pipeline_schedule_needs_ranks(configure: Configure, schedule: str) -> None:
    configure(schedule=schedule)
    with pytest.raises(poptorch.Error, match=f"{schedule}.* has one rank.* torchrun"):
        poptorch.inferenceModel(nn.ReLU())(torch.ones(1))


@pytest.mark.skipif(PIPELINES, reason="this torch has pipelines")
def test_an_old_torch_says_what_pipelines_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(poptorch.Error, match=r"need torch\.distributed\.pipelining .*sequential"):
        poptorch.inferenceModel(nn.ReLU())(torch.ones(1))


def test_a_rank_must_know_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(poptorch.Error, match="WORLD_SIZE must be a positive number"):
        ranks.size()


def test_a_bundle_gives_back_what_it_took() -> None:
    values = [torch.tensor(1.5), torch.tensor([True, False, True]), torch.arange(5)]
    values += [torch.rand(3, 2).half(), torch.rand(2, 3, 4).transpose(0, 2)]
    buffer = pack(values)
    assert buffer.numel() == size_of(values)
    like = [torch.empty_like(value, device="meta") for value in values]
    for value, got in zip(values, unpack(buffer, like)):
        assert got.dtype == value.dtype
        assert torch.equal(got, value)


def test_an_update_runs_replica_by_replica() -> None:  # 2.1
    options = poptorch.Options().deviceIterations(2).replicationFactor(2)
    options.Training.gradientAccumulation(3)
    plan = microbatch.make_plan(options, training=True)
    assert microbatch.order(plan) == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    inference = poptorch.Options().deviceIterations(2).replicationFactor(2)
    assert microbatch.order(microbatch.make_plan(inference, training=False)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("mean", "running", "expected"),
    [(False, False, 44.0), (True, False, 11.0), (True, True, 11.0)],
)
def test_gradients_of_other_processes_count_as_replicas(
    mean: bool, running: bool, expected: float
) -> None:  # 2.8
    weight = nn.Parameter(torch.zeros(1))
    gradients = Gradients(mean=mean, running=running)
    for value in (4.0, 8.0):
        weight.grad = torch.tensor([value * 2])  # scaled by 2
        gradients.add({"w": weight}, torch.float32)
    others = 32.0 if running else 64.0  # another process had 32 twice, or its running mean

    def add_others(totals: dict[str, torch.Tensor]) -> int:
        totals["w"].add_(others)
        return 2

    assert gradients.take(2.0, add_others)["w"].item() == expected
