"""`python -m poptorch_host` runs programs that say `import poptorch`, unmodified."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import List, Tuple

import pytest

from poptorch_host.__main__ import main

PROGRAM = """
import sys
import torch
import poptorch
import poptorch.optim as optim
from poptorch.options import Options
from poptorch import inferenceModel

import beside

assert poptorch.optim is optim and poptorch.Options is Options
model = inferenceModel(torch.nn.ReLU(), poptorch.Options().deviceIterations(2))
print(__name__, sys.argv[1:], model(torch.tensor([-1.0, 2.0])).tolist(), beside.VALUE)
sys.exit(3)
"""


def run(repository: Path, folder: Path, *arguments: str) -> Tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "poptorch_host", *arguments],
        cwd=str(folder),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_script_runs_as_main_with_its_arguments(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "beside.py").write_text("VALUE = 7\n", encoding="utf-8")
    status, out, err = run(repository, tmp_path, "programs/program.py", "--batch", "2")
    assert (status, out) == (3, "__main__ ['--batch', '2'] [0.0, 2.0] 7\n"), err


def test_a_module_runs_as_main(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "beside.py").write_text("VALUE = 8\n", encoding="utf-8")
    status, out, err = run(repository, tmp_path, "-m", "program", "x")
    assert (status, out) == (3, "__main__ ['x'] [0.0, 2.0] 8\n"), err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "usage: python -m poptorch_host"),
        (["absent.py"], "no such file: absent.py"),
        (["-x"], "unknown option -x"),
        (["-m"], "-m needs the name of a module"),
    ],
)
def test_wrong_command_lines_show_the_usage(
    capsys: pytest.CaptureFixture[str], arguments: List[str], text: str
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
