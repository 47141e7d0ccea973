"""Ranks forked from one process that has imported torch; they meet in a store of rank 0's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).parents[3]

BEGIN = """
import os, signal, sys, time
import torch
from torch import distributed
from poptorch_host.heartbeat import heartbeat
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
store = distributed.PrefixStore(attempt, next(distributed.rendezvous("env://"))[0])
def start():
    heartbeat.start(store, rank, size, f"stage {rank + 1} of {size}")
def meet():
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    start()
def arrive(name):  # past the heartbeat: all wait until all are here
    store.add(name, 1)
    while store.add(name, 0) < size:
        time.sleep(0.02)
def work():
    distributed.all_reduce(torch.ones(1))
"""
"""What every program begins with; `work` needs all ranks."""

FORKER = """
import atexit, contextlib, json, os, sys, threading, time, traceback
import torch, poptorch_host.heartbeat.heartbeat
with contextlib.suppress(ImportError):  # what the ranks would each import for themselves
    import poptorch_host.graph.parts, poptorch_host.ranks.pipeline, torch._dynamo
def run(job, rank):
    output = os.open(f"{job['folder']}/{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1), os.dup2(output, 2)
    os.environ.update(job["environment"], RANK=str(rank))
    os.environ["TORCHELASTIC_ERROR_FILE"] = f"{job['folder']}/{rank}.json"
    code = 0
    try:
        exec(compile(job["program"], "program", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:
        sys.last_value = error
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)
def serve(port):
    agent = os.fork()
    if agent == 0:
        store = torch.distributed.TCPStore("127.0.0.1", port, None, True, wait_for_workers=False)
        time.sleep(60)
        os._exit(0)
    return agent
for line in sys.stdin:
    job, ranks = json.loads(line), {}
    agent = serve(int(job["environment"]["MASTER_PORT"])) if job["agent"] else 0
    job["environment"]["AGENT"] = str(agent)
    for rank in range(int(job["environment"]["WORLD_SIZE"])):
        number = os.fork()
        if number == 0:
            run(job, rank)
        ranks[number] = rank
    codes, patience = {}, time.monotonic() + 50
    while len(codes) < len(ranks):
        number, status = os.waitpid(-1, os.WNOHANG)
        if number == agent != 0:
            agent = 0
        elif number:
            codes[ranks[number]] = -(status & 127) or status >> 8
        elif time.monotonic() > patience:
            for number in ranks:
                if ranks[number] not in codes:
                    os.kill(number, 9)
        else:
            time.sleep(0.01)
    if agent:
        os.kill(agent, 9), os.waitpid(agent, 0)
    print(json.dumps([codes[rank] for rank in sorted(codes)]), flush=True)
"""
"""Runs jobs from stdin, each in forked ranks, as Python runs a script; answers their exit codes."""


class Result:
    """What the ranks of a job left: exit codes (negative: signals), output, files for torchrun."""

    def __init__(self, codes: List[int], folder: Path) -> None:
        self.codes = codes
        self.output = [(folder / str(rank)).read_text() for rank in range(len(codes))]
        paths = [folder / f"{rank}.json" for rank in range(len(codes))]
        self.files: List[Any] = [
            json.loads(path.read_text()) if path.exists() else None for path in paths
        ]

    def message(self) -> str:
        """The first line of the job's one message."""
        lines = [line for text in self.output for line in text.splitlines()]
        ours = [line for line in lines if line.startswith("poptorch_host: ")]
        assert len(ours) == 2, self.output
        assert "every rank ends, exit code 1" in ours[1]
        assert "resume=auto" in ours[1]
        return ours[0]


class Ranks:
    """Runs programs in forked ranks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, 0
        self.forker = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=str(ROOT),
            env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"},
        )

    def __call__(
        self, program: str, size: int = 3, limit: float = 20.0, agent: bool = False
    ) -> Result:
        """Run `program` in `size` ranks; the store is rank 0's, or an agent's as in torchrun."""
        self.jobs += 1
        folder = self.folder / str(self.jobs)
        folder.mkdir()
        environment = {
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "TORCHELASTIC_USE_AGENT_STORE": str(agent),
            "TORCHELASTIC_RESTART_COUNT": "0",
            "POPTORCH_HOST_HEARTBEAT_INTERVAL": "0.1",
            "POPTORCH_HOST_HEARTBEAT_LIMIT": str(limit),
        }
        job: Dict[str, Any] = {"folder": str(folder), "environment": environment, "agent": agent}
        assert self.forker.stdin is not None
        assert self.forker.stdout is not None
        self.forker.stdin.write(json.dumps({**job, "program": BEGIN + program}) + "\n")
        self.forker.stdin.flush()
        return Result(json.loads(self.forker.stdout.readline()), folder)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
