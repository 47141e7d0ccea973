"""Errors have PopTorch's classes, attributes and text (2.17)."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host.errors import COMPILER, LOG_FILE, PYTHON, compiler_error, raised_in


class Reads(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.sum().item()  # READS: the error names this line


def test_error_is_no_runtime_error() -> None:
    # 7.2
    assert poptorch.Error.__bases__ == (Exception,)
    assert poptorch.ConfigFileError.__bases__ == (Exception,)
    for kind in (poptorch.RecoverableError, poptorch.UnrecoverableError):
        assert issubclass(kind, poptorch.Error)
    assert poptorch.RecoverableError.recovery_action == ""
    assert not hasattr(poptorch.Error, "recovery_action")


def test_created_error_is_returned_with_prefix_and_attributes() -> None:
    error = poptorch.createPoptorchError("no such thing")
    assert str(error) == "'poptorch_py_error': no such thing"
    assert (error.type, error.message) == (PYTHON, "no such thing")
    assert error.location == ""


def test_what_a_compile_finds_names_the_line_and_what_was_going_on() -> None:
    with pytest.raises(poptorch.Error) as raised:
        poptorch.inferenceModel(Reads()).compile(torch.ones(1))
    error = raised.value
    lines = Path(__file__).read_text().splitlines()
    number = next(i for i, line in enumerate(lines, start=1) if "# READS" in line)
    first, *rest = str(error).splitlines()
    assert first.startswith(f"In {__file__}:{number}: 'poptorch_cpp_error': aten::item is only")
    assert rest == ["Error raised in:", "  [0] capture of Reads.forward"]
    assert error.type == COMPILER
    assert error.message.startswith("aten::item is only supported")
    assert "Error raised in" not in error.message
    assert error.location == "[0] capture of Reads.forward"


def test_steps_are_numbered_from_the_innermost() -> None:
    with pytest.raises(poptorch.Error) as raised:  # noqa: SIM117  # two steps
        with raised_in("outer"), raised_in("inner"):
            raise compiler_error("no", "a.py:1")
    assert raised.value.location == "[0] inner\n[1] outer"
    assert str(raised.value) == (
        "In a.py:1: 'poptorch_cpp_error': no\nError raised in:\n  [0] inner\n  [1] outer"
    )


def test_python_errors_have_no_steps() -> None:
    with pytest.raises(poptorch.Error) as raised, raised_in("outer"):
        raise poptorch.createPoptorchError("no")
    assert str(raised.value) == "'poptorch_py_error': no"
    assert raised.value.location == ""


def test_what_an_operator_raises_in_forward_is_found_by_the_compiler() -> None:
    # for_loop's own error comes from Python and passes through the capture
    class Loops(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return poptorch.identity_loss(poptorch.for_loop(2, lambda y: y + 1, [x])[0], "sum")

    with pytest.raises(
        poptorch.Error, match=r"for_loop.* is only supported in inference"
    ) as raised:
        poptorch.trainingModel(Loops(1, 1)).compile(torch.ones(1))
    assert raised.value.type == COMPILER
    assert raised.value.location == "[0] capture of Loops.forward"


@pytest.mark.parametrize("kind", ["py", "cpp"])
def test_errors_survive_pickling(kind: str) -> None:
    if kind == "py":
        error = poptorch.createPoptorchError("no")
    else:
        error = compiler_error("no", "a.py:1")
        error.location = "[0] there"
    loaded = pickle.loads(pickle.dumps(error))
    assert type(loaded) is poptorch.Error
    assert str(loaded) == str(error)
    for name in ("type", "message", "location"):
        assert getattr(loaded, name) == getattr(error, name)


def test_a_device_error_carries_what_would_help() -> None:
    error = poptorch.RecoverableError("link down")
    error.recovery_action = "LINK_RESET"
    assert pickle.loads(pickle.dumps(error)).recovery_action == "LINK_RESET"
    assert poptorch.RecoverableError.recovery_action == ""  # of this one only


def test_long_messages_go_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(f"line {number}" for number in range(80))
    assert text in str(poptorch.createPoptorchError(text))
    assert not (tmp_path / LOG_FILE).exists()
    longer = text + "\nline 80\nline 81"
    error = poptorch.createPoptorchError(longer)
    assert str(error).endswith(f"line 79\n... and 2 more lines: all are in {LOG_FILE}")
    assert error.message == longer
    assert (tmp_path / "poptorch_error.log").read_text() == longer + "\n"


def test_long_messages_stay_whole_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOG_FILE).mkdir()
    monkeypatch.chdir(tmp_path)
    text = "\n".join(f"line {number}" for number in range(90))
    assert text in str(poptorch.createPoptorchError(text))
