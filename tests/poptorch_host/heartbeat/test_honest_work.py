"""Honest work, however long, does not end the job; nor do ranks that end in order."""

from __future__ import annotations

from tests.poptorch_host.heartbeat.forked_ranks import Ranks


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
