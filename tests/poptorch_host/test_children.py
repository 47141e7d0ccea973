"""Processes that a program under `python -m poptorch_host` starts find `poptorch` (section 4)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict

PROGRAM = """
import concurrent.futures
import multiprocessing
import subprocess
import sys

import torch

def names(_=None):
    import horovod.torch
    import popart
    import popdist.poptorch
    import poptorch.optim
    return [poptorch.__name__, popdist.__name__, popart.__name__, horovod.torch.__name__]

class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return names()

if __name__ == "__main__":
    expected = names()
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(names).result() == expected, method
    loader = torch.utils.data.DataLoader(
        Items(), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert list(loader) == [expected]
    code = "import poptorch, popdist, popart, horovod.torch; print(poptorch.__name__)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd="/", text=True) == (
        "poptorch_host\\n"
    )
    print(expected)
"""

# 1.3: the instances of torchrun, and what they do together
INSTANCES = """
import popdist
import popdist.poptorch
import poptorch

popdist.init()
options = popdist.poptorch.Options()
index = popdist.getInstanceIndex()
assert popdist.isPopdistEnvSet() and popdist.getNumInstances() == 2
assert (options.Distributed.processId, options.Distributed.numProcesses) == (index, 2)
alone = popdist.execute_on_instances({1}, lambda: popdist.synchronize() or index)
popdist.synchronize()

@popdist.execute_on_instances({0, 1})
def both():
    popdist.synchronize()
    return index

with open(f"said_{index}", "w") as said:
    said.write(f"{alone} {both()} {popdist.getNumTotalReplicas()}")
"""


def environment(repository: Path) -> Dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}


def test_children_of_every_kind_resolve_the_same_modules(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    out = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-m", "poptorch_host", "program.py"],
        cwd=str(tmp_path),
        env=environment(repository),
        text=True,
    )
    modules = ["", ".popdist", ".popart", ".horovod.torch"]
    assert out == f"{[f'poptorch_host{module}' for module in modules]}\n"


def test_children_find_a_package_that_only_the_working_directory_holds(
    repository: Path, tmp_path: Path
) -> None:
    # started in a clone, nothing on PYTHONPATH: the children's path has no working directory
    code = "import concurrent.futures as c, multiprocessing as m\n"
    # imported by the child before any poptorch
    code += "import poptorch_host.tensors.structure as s\n"
    code += "if __name__ == '__main__':\n"
    code += "    pool = c.ProcessPoolExecutor(1, mp_context=m.get_context('spawn'))\n"
    code += "    print(pool.submit(s.flatten, [1]).result())\n"
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    variables = environment(repository)
    del variables["PYTHONPATH"]
    out = subprocess.check_output(
        [sys.executable, "-m", "poptorch_host", str(program)],
        cwd=str(repository),
        env=variables,
        text=True,
    )
    assert out == "[]\n"


def test_torchrun_starts_instances(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(INSTANCES, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *launch, "-m", "poptorch_host", "program.py"],
        cwd=str(tmp_path),
        env=environment(repository),
        check=True,
    )
    assert (tmp_path / "said_0").read_text() == "None 0 2"
    assert (tmp_path / "said_1").read_text() == "1 1 2"
