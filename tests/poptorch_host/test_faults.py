"""One rank's fault ends the job; honest work, however long, does not.

The ranks of most tests are forked from one process that has imported torch, and meet in a store
that rank 0 serves; the last test starts them with torchrun.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

pytest.importorskip("torch._C._distributed_c10d", reason="torch without torch.distributed")

import torch

from poptorch_host.heartbeat import faults, heartbeat
from poptorch_host.heartbeat.processes import ELSEWHERE, GONE, STOPPED, WAITING, Process

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    started = Ranks(tmp_path_factory.mktemp("ranks"))
    yield started
    assert started.forker.stdin is not None
    started.forker.stdin.close()
    started.forker.wait()
    assert started.forker.stdout is not None
    started.forker.stdout.close()


# 1. What ends the job


def test_kill_9_of_a_middle_rank_ends_the_others_and_is_named(ranks: Ranks) -> None:
    result = ranks(
        """
meet()
for step in range(10000):
    if rank == 1 and step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    work()
"""
    )
    assert result.codes == [1, -signal.SIGKILL, 1]
    assert "rank 1 (stage 2 of 3) was killed" in result.message()
    assert "Traceback" not in "".join(result.output)  # of gloo, which is no news then


def test_a_stopped_rank_ends_the_job_and_is_killed(ranks: Ranks) -> None:
    result = ranks(
        """
meet()
for step in range(10000):
    if rank == 1 and step == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
    work()
""",
        limit=1.5,
    )
    assert result.codes == [1, -signal.SIGKILL, 1]
    assert "rank 1 (stage 2 of 3) stopped answering for 1.5 s" in result.message()
    assert "which is stopped" in result.message()


def test_an_error_in_one_ranks_data_ends_the_job_with_that_error(ranks: Ranks) -> None:
    result = ranks(
        """
meet()
for step in range(10000):
    if rank == 1 and step == 5:
        raise ValueError("picture 7 is broken\\nsecond line")
    work()
"""
    )
    assert result.codes == [1, 1, 1]
    assert result.message().endswith(
        "rank 1 (stage 2 of 3) failed: ValueError: picture 7 is broken"
    )
    shown = ["Traceback" in text for text in result.output]
    assert shown == [False, True, False]  # the cause only
    traceback = result.files[1]["message"]["extraInfo"]["py_callstack"]
    assert traceback.startswith("Traceback")
    assert traceback.endswith("second line")


def test_torchruns_root_cause_is_the_rank_that_failed(ranks: Ranks) -> None:
    result = ranks('start(); arrive("all")\nif rank == 2: raise ValueError()\ntime.sleep(60)')
    assert result.codes == [1, 1, 1]
    first = min(result.files, key=lambda file: int(file["message"]["extraInfo"]["timestamp"]))
    assert first is result.files[2]
    assert "rank 2" in result.files[0]["message"]["message"]


def test_kill_9_of_the_rank_that_serves_the_store_is_named(ranks: Ranks) -> None:
    program = 'start(); arrive("all"); time.sleep(0.5)\n'
    program += "if rank == 0: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)"
    result = ranks(program)
    assert result.codes == [-signal.SIGKILL, 1, 1]
    assert "rank 0 (stage 1 of 3) was killed" in result.message()


def test_a_rank_out_of_memory_is_told_as_that(ranks: Ranks) -> None:
    result = ranks(
        """
start(); arrive("all")
if rank == 0:
    torch.empty(2 ** 60, dtype=torch.uint8)
time.sleep(60)
"""
    )
    assert result.codes == [1, 1, 1]
    assert "rank 0 (stage 1 of 3) ran out of memory: RuntimeError" in result.message()


def test_a_reported_error_ends_the_job_though_its_rank_goes_on(ranks: Ranks) -> None:
    result = ranks(
        """
start(); arrive("all")
if rank == 1:
    try:
        raise KeyError("weight")
    except KeyError as error:
        heartbeat.report(error)
time.sleep(60)
""",
        size=2,
        limit=1,
    )
    assert result.codes == [1, 1]
    assert "rank 1 (stage 2 of 2) failed: KeyError: 'weight'" in result.message()


def test_an_error_taken_by_another_excepthook_ends_the_job(ranks: Ranks) -> None:
    result = ranks(
        """
start(); arrive("all")
if rank == 1:
    sys.excepthook = lambda kind, error, trace: print("mine:", error)
    raise ValueError("late")
time.sleep(60)
""",
        size=2,
    )
    assert result.codes == [1, 1]
    assert "failed: ValueError: late" in result.message()
    assert result.output[1] == "mine: late\n"


def test_the_users_excepthook_is_still_called(ranks: Ranks) -> None:
    result = ranks(
        """
sys.excepthook = lambda kind, error, trace: print("mine:", error)
start(); arrive("all")
if rank == 1:
    raise ValueError("early")
time.sleep(60)
""",
        size=2,
    )
    assert result.codes == [1, 1]
    assert "failed: ValueError: early" in result.message()
    assert result.output[1] == "mine: early\n"


def test_a_rank_that_leaves_while_another_needs_it_is_named(ranks: Ranks) -> None:
    result = ranks("meet(); work()\nif rank == 0: work()", size=2, limit=1)
    assert result.codes == [1, 0]
    assert "rank 1 ended while rank 0 (stage 1 of 2) still needed it" in result.message()


def test_sigterm_of_one_rank_ends_the_others(ranks: Ranks) -> None:
    result = ranks(
        'start(); arrive("all")\nif rank == 1: os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)'
    )
    assert result.codes == [1, -signal.SIGTERM, 1]
    assert "rank 1 (stage 2 of 3) was ended by SIGTERM" in result.message()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_ranks_end_when_the_store_is_gone(ranks: Ranks, end: signal.Signals) -> None:
    """A server that dies closes its connections; one that stops leaves calls unanswered."""
    result = ranks(
        f"""
start(); arrive("all")
if rank == 0:
    time.sleep(0.5)
    os.kill(int(os.environ["AGENT"]), {int(end)})
time.sleep(60)
""",
        size=2,
        limit=1,
        agent=True,
    )
    assert result.codes == [1, 1]
    assert "the store at 127.0.0.1:" in result.message()
    assert "is gone: " in result.message()


# 2. What does not


def test_a_long_honest_computation_outlives_the_limit(ranks: Ranks) -> None:
    result = ranks("meet(); work()\nif rank == 1: time.sleep(3)\nwork()", limit=1)
    assert result.codes == [0, 0, 0]
    assert result.output == ["", "", ""]


def test_work_that_holds_pythons_lock_outlives_the_limit(ranks: Ranks) -> None:
    result = ranks(
        """
start(); arrive("all")
began = time.monotonic()
if rank == 1:
    sum(range(10 ** 8))  # one bytecode, which no other thread interrupts
    assert time.monotonic() - began > 0.8
    print("done")
arrive("end")
""",
        limit=0.6,
    )
    assert result.codes == [0, 0, 0]
    assert result.output == ["", "done\n", ""]


def test_ranks_that_end_at_different_times_end_in_silence(ranks: Ranks) -> None:
    """Rank 0, which serves the store, stays until the others have said goodbye."""
    result = ranks(
        """
start(); arrive("all")
time.sleep(0.6 * rank)
if rank == 1: sys.exit(0)
print("end")
"""
    )
    assert result.codes == [0, 0, 0]
    assert result.output == ["end\n", "", "end\n"]


def test_stop_says_goodbye_and_gives_the_hooks_back(ranks: Ranks) -> None:
    result = ranks(
        """
before = sys.excepthook, signal.getsignal(signal.SIGTERM)
start(); arrive("all")
assert (sys.excepthook, signal.getsignal(signal.SIGTERM)) != before
heartbeat.stop()
heartbeat.stop()
assert (sys.excepthook, signal.getsignal(signal.SIGTERM)) == before
os._exit(0)
""",
        size=2,
    )
    assert result.codes == [0, 0]
    assert result.output == ["", ""]


def test_a_child_of_a_rank_is_no_rank(ranks: Ranks) -> None:
    """As the workers of a loader: they end by SIGTERM, sys.exit or an error without a word."""
    result = ranks(
        """
import multiprocessing
def child(how):
    if how == "raise": sys.excepthook(ValueError, ValueError("a child's"), None)
    if how == "wait": time.sleep(60)
start(); arrive("all")
children = [multiprocessing.get_context("fork").Process(target=child, args=(how,))
            for how in ("raise", "wait", "end")]
for each in children: each.start()
time.sleep(0.3)
for each in children: each.terminate()
for each in children: each.join()
arrive("end")
print(sorted(each.exitcode for each in children))
""",
        size=2,
    )
    assert result.codes == [0, 0]
    assert all(text.splitlines()[-1] == "[-15, 0, 0]" for text in result.output), result.output
    assert not any("poptorch_host:" in text for text in result.output)


# 3. With a model on ranks

MODEL = """
import poptorch_host as poptorch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(size))
    def forward(self, x, target):
        for stage, layer in enumerate(self.layers):
            with poptorch.Block(ipu_id=stage):
                x = layer(x).relu()
                if stage == size - 1:
                    return x, torch.nn.functional.mse_loss(x, target)
options = poptorch.Options().autoRoundNumIPUs(True)
options.Training.gradientAccumulation(2 * size - 1)
torch.manual_seed(0)
whole = Model()
model = poptorch.trainingModel(whole, options, torch.optim.SGD(whole.parameters(), lr=0.1))
def train(step):
    if FAULT == "error" and rank == 1 and step == 3:
        raise ValueError("picture 7 is broken")
    model(torch.ones(2 * size - 1, 4), torch.ones(2 * size - 1, 4))
    if FAULT == "kill" and rank == 1 and step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
for step in range(5):
    train(step)
print("trained")
"""


@pytest.mark.parametrize(
    ("fault", "codes", "words"),
    [
        ("kill", [1, -9, 1], "rank 1 (stage 1 of 0-2, replica 0) was killed"),
        ("error", [1, 1, 1], "rank 1 (stage 1 of 0-2, replica 0) failed: ValueError: picture 7"),
    ],
)
def test_a_fault_of_a_stage_ends_the_pipeline(
    ranks: Ranks, fault: str, codes: List[int], words: str
) -> None:
    pytest.importorskip("poptorch_host.ranks.pipeline", reason="torch without these pipelines")
    result = ranks(f"FAULT = {fault!r}\n{MODEL}")
    assert result.codes == codes, result.output
    assert words in result.message()


# 4. Its parts


def test_a_second_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_heart", object())
    with pytest.raises(RuntimeError, match="beats already"):
        heartbeat.start(torch._C._distributed_c10d.HashStore(), 0, 1)


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPTORCH_HOST_HEARTBEAT_LIMIT", "soon")
    with pytest.raises(ValueError, match=r"HEARTBEAT_LIMIT must be a positive number .*'soon'"):
        heartbeat.start(torch._C._distributed_c10d.HashStore(), 0, 1)


def test_a_process_is_seen_as_it_is() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        began = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        here = Process.this()
        process = Process(here.host, here.space, child.pid, began)
        assert process.state() == WAITING
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert process.state() == STOPPED
        assert Process(here.host, "another machine", child.pid, began).state() == ELSEWHERE
        assert Process(here.host, here.space, child.pid, began - 1).state() == GONE  # number reused
        child.kill()
        child.wait()
        assert process.state() == GONE


def test_errors_of_lost_connections_are_consequences() -> None:
    lost = RuntimeError("[pair.cc:525] Connection closed by peer [127.0.0.1]:1")
    wrapped = ValueError("step 7")
    wrapped.__cause__ = lost
    assert faults.is_consequence(lost)
    assert faults.is_consequence(wrapped)
    assert not faults.is_consequence(RuntimeError("shape mismatch"))
    assert not faults.is_consequence(BrokenPipeError())


# 5. Under torchrun


def test_torchrun_restarts_after_a_kill_and_ends_with_the_error(tmp_path: Path) -> None:
    """The second attempt begins with a clean store; its error is torchrun's root cause."""
    program = tmp_path / "program.py"
    program.write_text(
        BEGIN
        + """
meet()
for step in range(100):
    if rank == 1 and attempt == "0" and step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    work()
os.write(1, f"finished attempt {attempt};".encode())  # whole: three ranks share the pipe
arrive("finished")
if rank == 2:
    raise ValueError("picture 7 is broken")
time.sleep(60)
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=3", "--max-restarts=1", "--monitor-interval=0.1", str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.count("finished attempt 1") == 3
    ours = [line for line in done.stderr.splitlines() if "poptorch_host: rank" in line]
    assert len(ours) == 2, done.stderr
    assert "rank 1 (stage 2 of 3) was killed" in ours[0]
    assert "rank 2 (stage 3 of 3) failed: ValueError: picture 7 is broken" in ours[1]
    root = done.stderr.partition("Root Cause")[2]
    assert "rank      : 2 " in root
    assert "ValueError: picture 7 is broken" in root
