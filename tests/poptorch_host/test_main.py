"""`python -m poptorch_host` runs programs that say `import poptorch`, unmodified (1.10, 4)."""

from __future__ import annotations

import json  # noqa: F401  # stands for another poptorch in a test
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import List, Tuple

import pytest

from poptorch_host import alias, launch
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


# 1.10: the forms of import that public programs use
IMPORTS = """
import ctypes
import poptorch
from poptorch import *
from poptorch import trainingModel, DataLoader
import poptorch.poptorch_core as poptorch_core
from poptorch.optim import SGD
import poptorch.options
import popart
import popdist
import popdist.poptorch

assert print is poptorch.print
assert poptorch_core.Error is poptorch.Error and poptorch.poptorch_core is poptorch_core
assert issubclass(popdist.poptorch.Options, poptorch.Options)
options = popdist.poptorch.Options(ipus_per_replica=2)
assert isinstance(options.Distributed, poptorch.options._DistributedOptions)
options._Popart.set("autoRecomputation", int(popart.RecomputationType.Pipeline))
print(options._Popart.options, SGD is poptorch.optim.SGD, __name__, len(__import__("sys").argv))
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


def test_a_package_a_folder_and_a_zip_file_run_their_main(repository: Path, tmp_path: Path) -> None:
    package = tmp_path / "tool"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "__main__.py").write_text(IMPORTS, encoding="utf-8")
    expected = (0, "{'autoRecomputation': 3} True __main__ 2\n")
    status, out, err = run(repository, tmp_path, "-m", "tool", "x")
    assert (status, out) == expected, err
    with zipfile.ZipFile(str(tmp_path / "tool.zip"), "w") as archive:
        archive.writestr("__main__.py", IMPORTS)
    status, out, err = run(repository, tmp_path, "tool.zip", "x")
    assert (status, out) == expected, err


@pytest.mark.parametrize("name", ["absent_here.tool", "json.absent"])
def test_an_absent_module_is_told_as_python_tells_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert launch.run_module([name]) == 1
    assert f"No module named {name}" in capsys.readouterr().err


def test_a_folder_without_a_main_is_told_as_python_tells_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert launch.run_script([str(tmp_path)]) == 1
    assert "can't find '__main__' module in" in capsys.readouterr().err


def test_pytest_runs_with_its_own_imports(repository: Path, tmp_path: Path) -> None:
    # conftest, assertion rewriting and a test beside a folder of the runtime's name
    (tmp_path / "conftest.py").write_text("import poptorch\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text(
        "import poptorch\n"
        "def test_it():\n"
        "    options = poptorch.Options().deviceIterations(2)\n"
        "    assert options.device_iterations == 3\n",
        encoding="utf-8",
    )
    arguments = ("-q", "-p", "no:cacheprovider", "--import-mode=prepend", "-W", "error")
    status, out, err = run(repository, tmp_path, "-m", "pytest", *arguments, "test_it.py")
    assert status == 1, err
    assert "assert 2 == 3" in out  # rewritten
    assert "1 failed" in out


def test_importing_the_package_takes_no_name(repository: Path) -> None:
    code = (
        "import sys; before = list(sys.path), list(sys.meta_path); import poptorch_host;"
        "print([n for n in ('poptorch', 'popdist', 'popart') if n in sys.modules],"
        " before == (sys.path, sys.meta_path))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], cwd=str(repository), text=True)
    assert out == "[] True\n"


def test_another_poptorch_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    finders = list(sys.meta_path)
    monkeypatch.setitem(sys.modules, "poptorch", sys.modules["json"])
    with pytest.raises(RuntimeError, match=r"poptorch is already imported from .*json"):
        alias.install()
    assert sys.meta_path == finders


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
