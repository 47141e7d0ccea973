"""One rank's fault ends the job, and is named."""

from __future__ import annotations

import signal

import pytest

from tests.poptorch_host.heartbeat.forked_ranks import Ranks


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
