"""The part of `horovod.torch` that public PopTorch programs call (section 4).

`python -m poptorch_host` serves it to programs where horovod is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest
import torch

from poptorch_host.horovod import torch as hvd

LAUNCHERS = ("POPDIST_", "OMPI_COMM_WORLD_", "WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_")

# Two instances meet: the calls of Graphcore's CNN and ViT examples
INSTANCES = """
import horovod.torch as hvd
import torch

hvd.init()
rank = hvd.rank()
assert (hvd.size(), hvd.local_rank(), hvd.local_size()) == (2, rank, 2)
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).half()
for value in model.state_dict().values():
    torch.nn.init.constant_(value, rank + 3)
hvd.broadcast_parameters(model.state_dict(), root_rank=1)
assert all((value == 4).all() for value in model.state_dict().values())
optimizer = torch.optim.SGD(model.parameters(), lr=rank + 1.0)
hvd.broadcast_optimizer_state(optimizer, root_rank=0)
assert optimizer.param_groups[0]["lr"] == 1.0
assert hvd.broadcast(torch.tensor([rank == 1]), root_rank=1).tolist() == [True]
assert hvd.broadcast_object({"rank": rank}) == {"rank": 0}
assert hvd.allgather_object(str(rank)) == ["0", "1"]
assert hvd.allgather(torch.arange(rank + 1)).tolist() == [0, 0, 1]
assert hvd.allreduce(torch.tensor([rank + 0.5]), average=True).item() == 1.0
assert hvd.allreduce(torch.tensor([rank + 0.5]), average=False).item() == 2.0
assert hvd.allreduce(torch.tensor(rank + 2), op=hvd.Sum).item() == 5
assert hvd.allreduce(torch.tensor(-rank)).item() == -1  # rounded down
mine = torch.tensor(rank + 2.0)
assert [t.item() for t in hvd.grouped_allreduce([mine, mine], op=hvd.Product)] == [6.0, 6.0]
assert hvd.allreduce_(mine, op=hvd.Max) is mine and mine.item() == 3.0
hvd.barrier()
open(f"said_{rank}", "w").close()
"""

# An installed horovod wins in a program and in its children
INSTALLED = """
import subprocess
import sys

import poptorch
import horovod.torch as hvd

assert hvd.WHO == "installed", hvd
code = "import horovod.torch as hvd; print(hvd.WHO)"
assert subprocess.check_output([sys.executable, "-c", code], text=True) == "installed\\n"
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)
    yield
    hvd.shutdown()


def run(repository: Path, folder: Path, program: str, *arguments: str) -> None:
    (folder / "program.py").write_text(program, encoding="utf-8")
    paths = os.pathsep.join([str(repository), str(folder / "site")])
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "program.py"],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_process_alone_needs_no_launcher() -> None:
    assert not hvd.is_initialized()
    hvd.init()
    hvd.init()
    assert hvd.is_initialized()
    assert (hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size()) == (0, 1, 0, 1)
    tensor = torch.tensor([1, 2])
    results: List[Any] = [
        hvd.allreduce(tensor),
        hvd.allreduce(tensor, op=hvd.Min),
        hvd.grouped_allreduce([tensor], op=hvd.Sum)[0],
        hvd.grouped_allreduce_([tensor])[0],
        hvd.allgather(tensor),
        hvd.broadcast(tensor, root_rank=0),
        hvd.broadcast_(tensor, root_rank=0),
        hvd.allgather_object(tensor)[0],
        hvd.broadcast_object(tensor),
    ]
    assert all(torch.equal(result, torch.tensor([1, 2])) for result in results)
    hvd.barrier()
    hvd.shutdown()
    assert not hvd.is_initialized()


def test_results_have_no_graph_and_factors_scale() -> None:
    hvd.init()
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    result = hvd.allreduce(weight, prescale_factor=3.0, postscale_factor=0.5)
    assert not result.requires_grad
    assert result.item() == 3.0
    assert hvd.allreduce_(weight, prescale_factor=2.0) is weight
    assert weight.item() == 4.0


def test_calls_before_init_are_refused_in_horovods_words() -> None:
    for call in (hvd.rank, hvd.size, hvd.local_rank, hvd.barrier):
        with pytest.raises(ValueError, match=r"Horovod has not been initialized; use hvd\.init"):
            call()


def test_wrong_arguments_are_refused() -> None:
    hvd.init()
    one = torch.ones(1)
    with pytest.raises(ValueError, match="op parameter supersedes average"):
        hvd.allreduce(one, average=True, op=hvd.Sum)
    with pytest.raises(ValueError, match=r"op must be Average, .* got 9"):
        hvd.allreduce(one, op=9)
    with pytest.raises(ValueError, match="root_rank is 1, but the ranks are 0 to 0"):
        hvd.broadcast(one, root_rank=1)
    with pytest.raises(ValueError, match=r"a first dimension, got one of shape \[\]"):
        hvd.allgather(torch.tensor(1.0))
    with pytest.raises(ValueError, match="invalid params of type: <class 'int'>"):
        hvd.broadcast_parameters(3, root_rank=0)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r"'DistributedOptimizer'; .* a part of horovod only"):
        hvd.DistributedOptimizer  # noqa: B018


def test_instances_of_torchrun_tell_each_other(repository: Path, tmp_path: Path) -> None:
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run(repository, tmp_path, INSTANCES, "poptorch_host", "-m", *torchrun)
    assert sorted(path.name for path in tmp_path.glob("said_*")) == ["said_0", "said_1"]


def test_an_installed_horovod_wins(repository: Path, tmp_path: Path) -> None:
    package = tmp_path / "site" / "horovod"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "torch.py").write_text('WHO = "installed"\n', encoding="utf-8")
    run(repository, tmp_path, INSTALLED, "poptorch_host")
