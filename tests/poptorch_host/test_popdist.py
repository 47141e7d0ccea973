"""`popdist` reads the launcher's environment (1.3); `test_children.py` starts real instances."""

from __future__ import annotations

from typing import Dict

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import popdist
from poptorch_host.options.effects import effects_of

LAUNCHERS = ("POPDIST_", "OMPI_COMM_WORLD_", "WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_")
POPRUN = {
    "POPDIST_NUM_TOTAL_REPLICAS": "8",
    "POPDIST_NUM_LOCAL_REPLICAS": "2",
    "POPDIST_NUM_IPUS_PER_REPLICA": "4",
    "POPDIST_REPLICA_INDEX_OFFSET": "6",
    "POPDIST_UNIFORM_REPLICAS_PER_INSTANCE": "1",
    "POPDIST_LOCAL_INSTANCE_INDEX": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
}


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import os

    for name in list(os.environ):
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)
    return monkeypatch


def started_by(launcher: pytest.MonkeyPatch, variables: Dict[str, str]) -> None:
    for name, value in variables.items():
        launcher.setenv(name, value)


def test_without_a_launcher_there_is_one_instance(launcher: pytest.MonkeyPatch) -> None:
    assert not popdist.isPopdistEnvSet()
    assert (popdist.getInstanceIndex(), popdist.getNumInstances()) == (0, 1)
    assert (popdist.getNumTotalReplicas(), popdist.getNumLocalReplicas()) == (1, 1)
    assert (popdist.getNumIpusPerReplica(), popdist.getReplicaIndexOffset()) == (1, 0)
    assert (popdist.getLocalInstanceIndex(), popdist.getDeviceId()) == (0, 0)
    popdist.init()
    popdist.synchronize()
    assert popdist.execute_on_instances({0}, max, 2, 3) == 3


def test_poprun_gives_replicas_and_instances(launcher: pytest.MonkeyPatch) -> None:
    started_by(launcher, POPRUN)
    assert popdist.isPopdistEnvSet()
    assert (popdist.getInstanceIndex(), popdist.getNumInstances()) == (3, 4)
    assert (popdist.getNumTotalReplicas(), popdist.getNumLocalReplicas()) == (8, 2)
    assert (popdist.getNumIpusPerReplica(), popdist.getReplicaIndexOffset()) == (4, 6)
    assert popdist.getLocalInstanceIndex() == 1
    assert popdist.checkNumIpusPerReplica(4)
    assert not popdist.checkNumIpusPerReplica(2)


@pytest.mark.parametrize(
    ("size", "rank"), [("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("WORLD_SIZE", "RANK")]
)
def test_mpirun_and_torchrun_give_instances(
    launcher: pytest.MonkeyPatch, size: str, rank: str
) -> None:
    started_by(launcher, {size: "3", rank: "2"})
    assert popdist.isPopdistEnvSet()
    assert (popdist.getInstanceIndex(), popdist.getNumInstances()) == (2, 3)
    assert popdist.getNumTotalReplicas() == 3
    assert popdist.getReplicaIndexOffset() == 2


def test_options_are_those_of_the_instance(launcher: pytest.MonkeyPatch) -> None:
    started_by(launcher, POPRUN)
    options = popdist.poptorch.Options(ipus_per_replica=4)
    assert isinstance(options, poptorch.Options)
    assert options.ipus_per_replica == 4
    assert options.replication_factor == 2
    assert (options.Distributed.processId, options.Distributed.numProcesses) == (3, 4)
    copied = options.clone().deviceIterations(2)
    assert isinstance(copied, popdist.poptorch.Options)
    assert (copied.ipus_per_replica, options.device_iterations) == (4, 1)
    assert popdist.poptorch.Options().ipus_per_replica == 4


def test_an_executor_takes_the_options_of_an_instance(launcher: pytest.MonkeyPatch) -> None:
    options = popdist.poptorch.Options(ipus_per_replica=2)
    options.createOrSet(another=3)
    executor = poptorch.inferenceModel(torch.nn.ReLU(), options)
    assert executor(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
    ignored = effects_of(options).ignored
    assert set(ignored) == {"ipus_per_replica", "another"}
    assert all("no executor reads it" in reason for reason in ignored.values())


def test_another_number_of_ipus_is_refused(launcher: pytest.MonkeyPatch) -> None:
    started_by(launcher, POPRUN)
    with pytest.raises(ValueError, match=r"ipus_per_replica is 2, but POPDIST_NUM_IPUS.*gives.* 4"):
        popdist.poptorch.Options(ipus_per_replica=2)


def test_a_launcher_that_says_no_number_is_refused(launcher: pytest.MonkeyPatch) -> None:
    started_by(launcher, {"WORLD_SIZE": "two"})
    with pytest.raises(poptorch.Error, match="WORLD_SIZE must be a number, got 'two'"):
        popdist.getNumInstances()
    started_by(launcher, {**POPRUN, "POPDIST_UNIFORM_REPLICAS_PER_INSTANCE": "0"})
    with pytest.raises(poptorch.Error, match="different numbers of replicas"):
        popdist.getInstanceIndex()


def test_instances_need_a_place_to_meet(launcher: pytest.MonkeyPatch) -> None:
    started_by(launcher, {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"})
    with pytest.raises(poptorch.Error, match="MASTER_ADDR and MASTER_PORT are not set"):
        popdist.synchronize()


def test_instances_that_do_not_exist_are_refused(launcher: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"instances \[1\] do not exist; there are 1, from 0"):
        popdist.execute_on_instances({1}, print)


def test_execute_on_instances_decorates(launcher: pytest.MonkeyPatch) -> None:
    started_by(launcher, {"WORLD_SIZE": "2", "RANK": "1"})

    @popdist.execute_on_instances({0})
    def first() -> str:
        """Says so."""
        return "first"

    @popdist.execute_on_instances({1})
    def second() -> str:
        popdist.synchronize()  # waits for nobody: it is alone
        return "second"

    assert first() is None
    assert first.__doc__ == "Says so."
    assert second() == "second"
