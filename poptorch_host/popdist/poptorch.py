"""`popdist.poptorch.Options`: `poptorch.Options` of one instance among several."""

from __future__ import annotations

from typing import Optional

from ..options import Options as _PoptorchOptions
from .environment import (
    checkNumIpusPerReplica,
    getInstanceIndex,
    getNumInstances,
    getNumIpusPerReplica,
    getNumLocalReplicas,
)


class Options(_PoptorchOptions):
    """Options with process number, count of processes and local replicas from the launcher.

    Args:
        ipus_per_replica: IPUs of one replica; None takes the launcher's number.

    Raises:
        ValueError: the launcher gives another number of IPUs.
    """

    ipus_per_replica: int

    def __init__(self, ipus_per_replica: Optional[int] = None) -> None:
        super().__init__()
        if ipus_per_replica is None:
            ipus_per_replica = getNumIpusPerReplica()
        elif not checkNumIpusPerReplica(ipus_per_replica):
            raise ValueError(
                f"popdist.poptorch.Options: ipus_per_replica is {ipus_per_replica}, but"
                f" POPDIST_NUM_IPUS_PER_REPLICA gives each replica {getNumIpusPerReplica()};"
                " both must be equal"
            )
        self.createOrSet(ipus_per_replica=ipus_per_replica)
        self.replicationFactor(getNumLocalReplicas())
        self.Distributed.configureProcessId(getInstanceIndex(), getNumInstances())
