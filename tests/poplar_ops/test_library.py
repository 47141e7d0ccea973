"""Finding the compiled library, choosing a way to call it, and what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Tuple

import pytest
import torch

from poplar_ops import library
from poplar_ops.nms import run_compiled
from poplar_ops.topk import run_compiled as run_compiled_topk

Shape = Tuple[int, ...]
SMALL = (
    "import torch, poplar_ops; s = torch.tensor([[.5, .4]]);"
    "b = torch.tensor([[[0., 0, 2, 2]] * 2]);"
    "print(poplar_ops.backend(), poplar_ops.nms(s, b, max_detections=2).indices.tolist(),"
    " poplar_ops.topk_select(s, 1).indices.tolist())"
)


def run_python(code: str, repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter with these environment variables."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DETECTORS_")}
    environment.update(variables, PYTHONPATH=str(repository))
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_library_is_built_where_there_is_a_compiler() -> None:
    # Without this test a library that no longer compiles would only skip tests.
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler here")
    assert library.PATH.is_file(), (
        "run `pip install -e .`, or `python setup.py build_ext --inplace`"
    )


@pytest.mark.parametrize("choice", ["stable-c", "ctypes", "torch"])
def test_each_backend_can_be_asked_for(
    choice: str, repository: Path, request: pytest.FixtureRequest
) -> None:
    if choice != "torch":
        request.getfixturevalue("need_library")
    if choice == "stable-c" and not library.find_stable_c(library.LIBRARY):  # type: ignore[arg-type]
        pytest.skip("stable-c needs torch 2.10")
    done = run_python(SMALL, repository, DETECTORS_OPS=choice)
    assert done.stdout.split() == [choice, "[[0,", "-1]]", "[[0]]"], done.stderr


def test_missing_library_is_said_once_and_replaced_by_plain_torch(repository: Path) -> None:
    code = (
        "import importlib.util as u, pathlib; p = pathlib.Path(u.find_spec('poplar_ops').origin);"
        "real = pathlib.Path.is_file;"
        "pathlib.Path.is_file = lambda self: self.name != '_host.so' and real(self);" + SMALL
    )
    done = run_python(code, repository)
    assert done.stdout.split()[:1] == ["torch"], done.stderr
    assert done.stderr.count("no compiled operators") == 1
    assert "_host.so does not exist" in done.stderr
    assert "nms and topk_select run in plain torch" in done.stderr
    assert "pip install" in done.stderr


def test_library_that_does_not_load_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "_host.so"
    broken.write_bytes(b"not a library")
    found, reason = library.load(broken)
    assert found is None
    assert f"{broken} does not load" in reason


def test_unknown_backend_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"DETECTORS_OPS must be one of auto, .* got 'fast'"):
        library.choose("fast")


def test_backend_that_is_asked_for_never_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "PATH", tmp_path / "_host.so")
    with pytest.raises(RuntimeError, match=r"DETECTORS_OPS=ctypes, but .* does not exist; to bui"):
        library.choose("ctypes")


@pytest.mark.usefixtures("need_library")
def test_instruction_set_can_be_lowered(repository: Path) -> None:
    code = "from poplar_ops import library; print(library.simd())"
    assert run_python(code, repository, DETECTORS_SIMD="baseline").stdout.strip() == "baseline"
    wrong = run_python(code, repository, DETECTORS_SIMD="sse9")
    assert "DETECTORS_SIMD must be one of baseline, avx2, avx512, got 'sse9'" in wrong.stderr


@pytest.mark.usefixtures("need_library")
@pytest.mark.parametrize(
    ("scores", "boxes", "labels", "message"),
    [
        ((2, 5), (2, 5, 4), (2, 5), r"scores must be \(B, N, C\), got \(2, 5\)"),
        ((2, 5, 1), (2, 4, 4), (2, 5), r"boxes must be \(B, N, 4\), got \(2, 4, 4\)"),
        ((2, 5, 1), (2, 5, 4), (5,), r"labels must be \(B, N\), got \(5,\)"),
        ((1, 1, 1, 1, 1), (2, 5, 4), (5,), r"scores must be .*got \(1, 1, 1, 1, ...\)"),
    ],
)
@pytest.mark.parametrize("through", ["ctypes", "dispatcher"])
def test_kernel_checks_shapes_itself(
    through: str,
    scores: Shape,
    boxes: Shape,
    labels: Shape,
    message: str,
) -> None:
    call = run_compiled if through == "ctypes" else torch.ops.poplar_ops.nms
    tensors = (torch.zeros(scores), torch.zeros(boxes), torch.zeros(labels, dtype=torch.int32))
    with pytest.raises(RuntimeError, match=message):
        call(*tensors, 0.5, 0.0, 3, True, 0.0)


@pytest.mark.usefixtures("need_library")
@pytest.mark.parametrize("through", ["ctypes", "dispatcher"])
def test_kernel_checks_strides_and_dtypes_itself(through: str) -> None:
    # An expanded gradient has stride 0: a kernel that trusts the sizes reads beyond its end.
    nms = run_compiled if through == "ctypes" else torch.ops.poplar_ops.nms
    topk = run_compiled_topk if through == "ctypes" else torch.ops.poplar_ops.topk_select
    settings = (0.5, 0.0, 3, True, 0.0)
    scores, boxes = torch.zeros(2, 5, 1), torch.zeros(2, 5, 4)
    labels = torch.zeros(2, 5, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="boxes must be contiguous"):
        nms(scores, boxes[:1, :1].expand(2, 5, 4), labels, *settings)
    with pytest.raises(RuntimeError, match="scores must be float32"):
        nms(scores.double(), boxes, labels, *settings)
    with pytest.raises(RuntimeError, match="labels must be int32"):
        nms(scores, boxes, labels.long(), *settings)
    with pytest.raises(RuntimeError, match="x must be contiguous"):
        topk(torch.zeros(4, 2).t(), 2)


@pytest.mark.usefixtures("need_library")
@pytest.mark.parametrize("through", ["ctypes", "dispatcher"])
def test_kernel_checks_counts_itself(through: str) -> None:
    # nms with K = 0 once wrote its first row behind the end of a result without rows.
    nms = run_compiled if through == "ctypes" else torch.ops.poplar_ops.nms
    topk = run_compiled_topk if through == "ctypes" else torch.ops.poplar_ops.topk_select
    scores, boxes = torch.ones(1, 1, 1), torch.ones(1, 1, 4)
    labels = torch.zeros(1, 1, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="max_detections must be at least 1, got 0"):
        nms(scores, boxes, labels, 0.5, 0.0, 0, True, 0.0)
    for k in (0, 3):
        with pytest.raises(RuntimeError, match=f"k must be from 1 to N = 2, got {k}"):
            topk(torch.zeros(4, 2), k)
