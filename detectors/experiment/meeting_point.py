"""Where the processes of one command leave objects for each other: a key-value store of
torch.distributed, torchrun's own where that started them.

No process group is needed, and one that waits still hears signals. An object passes as a pickle:
the store belongs to the launcher, and whoever can reach it could start processes too.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch waits until there is something to pass
    from torch.distributed import Store  # type: ignore[attr-defined]  # lives in torch's C++

__all__ = ["LONGEST", "MeetingPoint", "reach"]

SHORTEST, LONGEST = 0.0005, 0.02  # seconds between two looks at the store
FAREWELL = 10.0  # seconds that a process which keeps the store waits for the others to leave


class MeetingPoint:
    """Objects by key.

    Args:
        store: where they lie.
        kept_by_first: whether the store ends with the first process.
    """

    def __init__(self, store: Store, *, kept_by_first: bool = False) -> None:
        self.store = store
        self.kept_by_first = kept_by_first

    def put(self, key: str, value: Any) -> None:
        """Leave an object."""
        self.store.set(key, pickle.dumps(value))  # type: ignore[arg-type]  # bytes too
        self.store.add(f"{key} is there", 1)  # torch 2.0.1 cannot ask a store what it has

    def has(self, key: str) -> bool:
        """Whether it is there; returns at once."""
        return bool(self.store.add(f"{key} is there", 0) > 0)

    def get(self, key: str) -> Any:
        """An object that is there."""
        return pickle.loads(self.store.get(key))

    def claim(self, key: str) -> bool:
        """Whether this process is the first to ask for it."""
        return bool(self.store.add(key, 1) == 1)

    def forget(self, key: str) -> None:
        """Take it away."""
        self.store.delete_key(key)
        self.store.delete_key(f"{key} is there")

    def leave(self, rank: int, size: int) -> None:
        """Nobody loses the store while waiting for something: who keeps it goes last, or after some
        seconds.
        """
        if not self.kept_by_first:
            return
        if rank:
            self.put(f"left/{rank}", True)
            return
        deadline = time.monotonic() + FAREWELL
        while time.monotonic() < deadline:
            if all(self.has(f"left/{other}") for other in range(1, size)):
                return
            time.sleep(LONGEST)


def reach(rank: int, size: int) -> MeetingPoint:
    """The one that the environment names; returns when all are there.

    Raises:
        ValueError: the environment does not say where.
        RuntimeError: this torch has no stores.
    """
    if os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == str(size):  # poprun, on one machine
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")  # as torch does
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"{size} processes need MASTER_ADDR and MASTER_PORT to meet, and"
            f" {' and '.join(missing)} is not set: torchrun sets both; with mpirun and poprun over"
            " several hosts, name the first host and a free port of it"
        )
    import torch.distributed as distributed

    if not distributed.is_available():
        raise RuntimeError(
            f"{size} processes need torch.distributed, which this torch is built without"
        )
    torch: Any = distributed
    store, _, _ = next(torch.rendezvous("env://", rank, size))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return MeetingPoint(torch.PrefixStore(f"detectors/{attempt}", store), kept_by_first=own)
