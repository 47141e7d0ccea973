"""`popdist`: which of how many instances of a program this process is.

An instance runs the whole model; the instances' gradients are reduced together. Numbers come from
the launcher's environment: poprun's POPDIST_*, else mpirun's OMPI_COMM_WORLD_*, else torchrun's
WORLD_SIZE and RANK. A program that asks here under torchrun is therefore run as instances, and not
as stages of a pipeline.
"""

from __future__ import annotations

from . import poptorch
from .environment import (
    checkNumIpusPerReplica,
    getDeviceId,
    getInstanceIndex,
    getLocalInstanceIndex,
    getNumInstances,
    getNumIpusPerReplica,
    getNumLocalReplicas,
    getNumTotalReplicas,
    getReplicaIndexOffset,
    isPopdistEnvSet,
)
from .instances import execute_on_instances, init, synchronize

__all__ = [
    "checkNumIpusPerReplica",
    "execute_on_instances",
    "getDeviceId",
    "getInstanceIndex",
    "getLocalInstanceIndex",
    "getNumInstances",
    "getNumIpusPerReplica",
    "getNumLocalReplicas",
    "getNumTotalReplicas",
    "getReplicaIndexOffset",
    "init",
    "isPopdistEnvSet",
    "poptorch",
    "synchronize",
]
