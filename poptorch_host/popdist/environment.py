"""What the launcher's environment says about instances, replicas and IPUs."""

from __future__ import annotations

import os
from typing import Optional

from ..errors import createPoptorchError

_TOTAL = "POPDIST_NUM_TOTAL_REPLICAS"
_LOCAL = "POPDIST_NUM_LOCAL_REPLICAS"
_OFFSET = "POPDIST_REPLICA_INDEX_OFFSET"
_IPUS = "POPDIST_NUM_IPUS_PER_REPLICA"
_UNIFORM = "POPDIST_UNIFORM_REPLICAS_PER_INSTANCE"

_SIZES = ("OMPI_COMM_WORLD_SIZE", "WORLD_SIZE")
_RANKS = ("OMPI_COMM_WORLD_RANK", "RANK")
_LOCAL_RANKS = ("POPDIST_LOCAL_INSTANCE_INDEX", "OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK")
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE")


def isPopdistEnvSet() -> bool:
    """Whether a launcher started this process: poprun, or mpirun or torchrun with several."""
    return _TOTAL in os.environ or (_first(*_SIZES) or 1) > 1


def getNumInstances() -> int:
    """Processes that run the program; 1 without a launcher.

    Raises:
        poptorch.Error: poprun gave them different numbers of replicas.
    """
    if _TOTAL not in os.environ:
        return _first(*_SIZES) or 1
    _check_uniform()
    return max(1, getNumTotalReplicas() // getNumLocalReplicas())


def getInstanceIndex() -> int:
    """This process, in [0, getNumInstances())."""
    if _TOTAL not in os.environ or _OFFSET not in os.environ:
        return _first(*_RANKS) or 0
    _check_uniform()
    return getReplicaIndexOffset() // getNumLocalReplicas()


def getLocalInstanceIndex() -> int:
    """This process among those of its machine; 0 without a launcher."""
    return _first(*_LOCAL_RANKS) or 0


def count_local_instances() -> int:
    """Processes of this machine; all of them where the launcher does not say."""
    return _first(*_LOCAL_SIZES) or getNumInstances()


def getNumLocalReplicas() -> int:
    """Replicas of the model in this process; 1 unless poprun says otherwise."""
    return _first(_LOCAL) or 1


def getNumTotalReplicas() -> int:
    """Replicas of the model in all processes."""
    total = _first(_TOTAL)
    return getNumInstances() * getNumLocalReplicas() if total is None else total


def getReplicaIndexOffset() -> int:
    """Number of this process's first replica."""
    offset = _first(_OFFSET)
    return getInstanceIndex() * getNumLocalReplicas() if offset is None else offset


def getNumIpusPerReplica() -> int:
    """IPUs of one replica as poprun gives them; 1 without it."""
    return _first(_IPUS) or 1


def checkNumIpusPerReplica(expected: int) -> bool:
    """Whether a replica of `expected` IPUs fits what the launcher gives."""
    return _first(_IPUS) in (None, expected)


def getDeviceId(ipusPerReplica: int = 0) -> int:
    """Number of the device: a host has one, 0, for all."""
    return 0


def _check_uniform() -> None:
    if _first(_UNIFORM) == 0:
        raise createPoptorchError(
            f"popdist: {_UNIFORM} is 0, so instances have different numbers of replicas and no"
            " common count; start the program with as many replicas in every instance"
        )


def _first(*variables: str) -> Optional[int]:
    """The number in the first of these variables that is set."""
    for variable in variables:
        text = os.environ.get(variable)
        if text is not None:
            if not text.strip().isdigit():
                raise createPoptorchError(
                    f"popdist: the environment variable {variable} must be a number, got {text!r}"
                )
            return int(text)
    return None
