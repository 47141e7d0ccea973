"""Ranks to run programs in."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.poptorch_host.heartbeat.forked_ranks import Ranks


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Runs programs in forked ranks; the process that forks them imports torch once."""
    pytest.importorskip("torch._C._distributed_c10d", reason="torch without torch.distributed")
    started = Ranks(tmp_path_factory.mktemp("ranks"))
    yield started
    assert started.forker.stdin is not None
    started.forker.stdin.close()
    started.forker.wait()
    assert started.forker.stdout is not None
    started.forker.stdout.close()
