"""What one process compiled the next one finds, and nothing else (1.3, 2.11)."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO, Any, Callable, List, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host.capture import capture
from poptorch_host.executable import executable_cache
from poptorch_host.executable.whole_file import write_whole

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH = 4
TABLE = {"scale": 2.0}


class Network(nn.Module):
    """A small network with what a key must see: attributes, globals, closures, blocks."""

    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.scale = scale
        self.table = {"shift": [1, 2]}
        self.function: Callable[[Tensor], Tensor] = lambda x: x * scale
        self.layer = nn.Linear(WIDTH, 2)
        poptorch.BeginBlock(self.layer, ipu_id=0)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, flag: bool = True) -> Tensor:
        y: Tensor = self.drop(self.function(self.layer(x))) * TABLE["scale"]
        return y if flag else y + 1


def options(folder: Path, iterations: int = 1) -> poptorch.Options:
    return poptorch.Options().deviceIterations(iterations).enableExecutableCaching(str(folder))


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """Grows by one entry with every capture."""
    found: List[str] = []
    original = capture.capture

    def counted(*arguments: Any, **named: Any) -> Any:
        found.append("capture")
        return original(*arguments, **named)

    monkeypatch.setattr(capture, "capture", counted)
    return found


def compile_again(
    captures: List[str], folder: Path, model: nn.Module, *arguments: Any, **setting: Any
) -> bool:
    """Whether compiling a model captured it."""
    before = len(captures)
    chosen = options(folder, **setting)
    poptorch.inferenceModel(model, chosen).compile(*(arguments or (torch.ones(4, WIDTH),)))
    return len(captures) > before


def files(folder: Path) -> List[Path]:
    return sorted(folder.glob("*.poptorch"))


def test_the_same_model_is_captured_once(
    tmp_path: Path, captures: List[str], caplog: pytest.LogCaptureFixture
) -> None:
    # 1.3: no effect on results
    model, x = Network().eval(), torch.rand(4, WIDTH)
    first = poptorch.inferenceModel(model, options(tmp_path))(x)
    other = Network().eval()
    other.load_state_dict(model.state_dict())
    with caplog.at_level(logging.INFO, logger="poptorch::python"):
        executor = poptorch.inferenceModel(other, options(tmp_path))
        assert torch.equal(executor(x), first)
    assert "executable cache: hit" in caplog.text
    assert captures == ["capture"]
    assert len(files(tmp_path)) == 1


def test_a_capture_leaves_the_model_what_it_was(tmp_path: Path, captures: List[str]) -> None:
    # The automatic id of its block stayed in the model: in a program with a training and an
    # inference model, the second one was another after a capture of the first than after a hit.
    model, x = Network().train(), torch.ones(4, WIDTH)
    assert compile_again(captures, tmp_path, model)
    assert not compile_again(captures, tmp_path, model)
    fresh = Network().train()
    fresh.load_state_dict(model.state_dict())
    runs = [
        poptorch.inferenceModel(each, options(tmp_path).randomSeed(1))(x) for each in (model, fresh)
    ]
    assert torch.equal(*runs)  # dropout draws alike, too


def test_every_run_after_the_first_finds_it(tmp_path: Path) -> None:
    # Two processes with different hash seeds; the second one may not capture at all.
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, torch
            import poptorch_host as poptorch
            from poptorch_host.capture import capture
            NAMES = {"b", "a", "c"}
            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer = torch.nn.Conv2d(3, 4, 3)
                    self.names = set(NAMES)
                def forward(self, x):
                    y = torch.nn.functional.relu(self.layer(x)).mean((2, 3))
                    return poptorch.identity_loss(y if "a" in NAMES else -y, "mean")
            if sys.argv[1] == "second":
                def refuse(*args, **kwargs):
                    raise SystemExit("captured")
                capture.capture = capture.runs_channels_last = refuse
            torch.manual_seed(0)
            model = Net()
            executor = poptorch.trainingModel(model)
            print(float(executor(torch.ones(2, 3, 8, 8))))
            """
        ),
        encoding="utf-8",
    )
    root = str(Path(poptorch.__file__).parents[1])
    printed = []
    for run in ("first", "second"):
        environment = {**os.environ, "POPTORCH_CACHE_DIR": str(tmp_path / "cache")}
        environment.update(
            PYTHONPATH=root,
            POPTORCH_LOG_LEVEL="INFO",
            PYTHONHASHSEED="1" if run == "first" else "2",
        )
        done = subprocess.run(
            [sys.executable, str(script), run],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        printed.append((done.stdout, done.stderr))
    assert printed[0][0] == printed[1][0]
    assert "executable cache: stored" in printed[0][1]
    assert "executable cache: hit" in printed[1][1]


def _other_mode(model: Network) -> None:
    model.train()


def _other_attribute(model: Network) -> None:
    model.table["shift"][1] = 3


def _other_layer(model: Network) -> None:
    model.layer = nn.Linear(WIDTH, 3)


def _other_block(model: Network) -> None:
    poptorch.removeBlocks(model)
    poptorch.BeginBlock(model.layer, user_id="mine", ipu_id=0)


def _hook(model: Network) -> None:
    model.layer.register_forward_hook(lambda module, inputs, result: result * 2)


def _frozen(model: Network) -> None:
    model.layer.weight.requires_grad_(False)


def _tied(model: Network) -> None:
    model.bias = model.layer.bias


def _function(model: Network) -> None:
    model.function = lambda x: x - 1


CHANGES = [_other_mode, _other_attribute, _other_layer, _other_block, _hook, _frozen, _tied]
CHANGES += [_function]


@pytest.mark.parametrize("change", CHANGES)
def test_another_graph_is_captured(
    tmp_path: Path, captures: List[str], change: Callable[[Network], None]
) -> None:
    compile_again(captures, tmp_path, Network().eval())
    model = Network().eval()
    change(model)
    assert compile_again(captures, tmp_path, model)


def test_globals_closures_and_arguments_are_part_of_the_key(
    tmp_path: Path, captures: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*arguments: Any) -> bool:
        return compile_again(captures, tmp_path, Network().eval(), *arguments)

    x = torch.ones(4, WIDTH)
    again()
    assert not again()
    assert again(x, False)
    assert again(torch.ones(2, WIDTH))
    assert again(x.half().float().double())
    assert compile_again(captures, tmp_path, Network(3.0).eval())
    assert compile_again(captures, tmp_path, Network().eval(), iterations=2)
    monkeypatch.setitem(TABLE, "scale", 3.0)
    assert again()


def test_host_settings_and_the_state_of_torch_are_part_of_the_key(
    tmp_path: Path, captures: List[str], configure: Callable[..., object]
) -> None:
    compile_again(captures, tmp_path, Network().eval())
    configure(operators="report")
    assert compile_again(captures, tmp_path, Network().eval())
    configure(operators="refuse")
    assert not compile_again(captures, tmp_path, Network().eval())
    torch.set_default_dtype(torch.float64)
    try:
        assert compile_again(captures, tmp_path, Network().float().eval())
    finally:
        torch.set_default_dtype(torch.float32)


def test_options_that_change_no_graph_share_an_executable(
    tmp_path: Path, captures: List[str]
) -> None:
    compile_again(captures, tmp_path, Network().eval())
    chosen = options(tmp_path).logDir("elsewhere").randomSeed(3)
    chosen.connectionType(poptorch.ConnectionType.OnDemand)
    poptorch.inferenceModel(Network().eval(), chosen).compile(torch.ones(4, WIDTH))
    assert len(captures) == 1


def test_training_and_inference_have_executables_of_their_own(
    tmp_path: Path, captures: List[str]
) -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.weight * x, "sum")

    for _ in range(2):
        model = Learns()
        training = poptorch.trainingModel(model, options(tmp_path))
        training(torch.ones(1))
        assert model.weight.item() == pytest.approx(0.99)
        poptorch.inferenceModel(model, options(tmp_path))(torch.ones(1))
    assert captures == ["capture"] * 2


@pytest.mark.parametrize("kind", ["empty", "foreign", "cut", "changed", "older"])
def test_a_file_that_is_no_good_is_ignored_with_one_line_and_replaced(
    tmp_path: Path, captures: List[str], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    compile_again(captures, tmp_path, Network().eval())
    (path,) = files(tmp_path)
    good = path.read_bytes()
    bad = {
        "empty": b"",
        "foreign": b"PK\x03\x04 something else",
        "cut": good[:-10],
        "changed": good[:-10] + b"0123456789",
        "older": good.replace(
            b"poptorch_host cached executable", b"poptorch_host cached something "
        ),
    }[kind]
    path.write_bytes(bad)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        assert compile_again(captures, tmp_path, Network().eval())
    (record,) = caplog.records
    assert record.getMessage().startswith(f"executable cache: {path} is ignored")
    assert not compile_again(captures, tmp_path, Network().eval())
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    chosen = poptorch.Options()
    chosen.enableExecutableCaching(str(tmp_path / "file" / "cache"))
    executor = poptorch.inferenceModel(Network(), chosen)
    with pytest.raises(AssertionError, match="expects a directory that can be written, got"):
        executor.compile(torch.ones(1, WIDTH))
    assert not executor.isCompiled()


def test_what_has_no_lasting_identity_is_not_cached(
    tmp_path: Path, captures: List[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if len(sys.argv) > 100 else x

    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.shape = tuple(x.shape)
            return x + 1

    here = Asks.__qualname__[: -len(".Asks")]
    holds = nn.ReLU()
    holds.items = (one for one in range(3))  # type: ignore[assignment]
    cases: List[Tuple[nn.Module, str]] = [
        (Asks(), "not used: Asks.forward reads argv"),
        (holds, "not used: model.items is a builtins.generator"),
        (Counts(), "not stored: forward sets attributes"),
    ]
    for model, text in cases:
        with caplog.at_level(logging.INFO, logger="poptorch::python"):
            for _ in range(2):
                assert compile_again(captures, tmp_path, model)
        assert f"executable cache: {text}" in caplog.text.replace(f"{here}.", "")
    assert files(tmp_path) == []


def test_environment_variables_that_code_reads_are_part_of_the_key(
    tmp_path: Path, captures: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if os.environ.get("POPTORCH_TEST_SWITCH") else x

    assert compile_again(captures, tmp_path, Asks())
    assert not compile_again(captures, tmp_path, Asks())
    monkeypatch.setenv("POPTORCH_TEST_SWITCH", "1")
    assert compile_again(captures, tmp_path, Asks())


def test_a_failed_capture_stores_nothing_and_frees_the_lock(
    tmp_path: Path, captures: List[str]
) -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    for _ in range(2):
        with pytest.raises(poptorch.Error):
            compile_again(captures, tmp_path, Asks())
    assert files(tmp_path) == []
    assert len(list(tmp_path.glob("*.lock"))) == 1


@pytest.fixture
def no_inductor_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "to be put back")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


@pytest.mark.usefixtures("no_inductor_folder")
def test_torch_compile_keeps_its_code_there_unless_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable_cache.direct_inductor(tmp_path)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    executable_cache.direct_inductor(tmp_path)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"


def test_the_lock_of_a_model_is_held_while_it_is_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 2.11: <md5 of the model's repr>.lock; processes with the same model wait for each other
    fcntl = pytest.importorskip("fcntl")
    model = Network().eval()
    name = hashlib.md5(repr(model).encode()).hexdigest() + ".lock"
    original = capture.capture

    def look(*arguments: Any, **named: Any) -> Any:
        with open(tmp_path / name, encoding="utf-8") as stream, pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return original(*arguments, **named)

    monkeypatch.setattr(capture, "capture", look)
    poptorch.inferenceModel(model, options(tmp_path)).compile(torch.ones(1, WIDTH))
    with open(tmp_path / name, encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(files(tmp_path)) == 1


def test_a_file_that_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fails(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_whole(path, fails)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
