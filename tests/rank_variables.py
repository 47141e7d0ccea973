"""The environment of processes that work together, as torchrun sets it."""

from __future__ import annotations

import os
import socket
from typing import Dict, List


def rank_variables(size: int) -> List[Dict[str, str]]:
    """The variables of each of so many processes on this machine, ours among them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(size)
    ]
