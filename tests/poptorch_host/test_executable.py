"""Saved executables run without a compilation, and only for what they were made for (2.11)."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch


class Network(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(width, 2)

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        result: Tensor = self.layer(x) * scale
        return result


def options(iterations: int = 2) -> poptorch.Options:
    return poptorch.Options().deviceIterations(iterations)


@pytest.fixture
def compilations() -> List[str]:
    return []


@pytest.fixture(autouse=True)
def _count(compilations: List[str]) -> object:
    handle = poptorch.registerPreCompileHook(lambda: compilations.append("compiled"))
    yield
    handle.remove()


def test_load_rebuilds_model_options_and_executable(
    tmp_path: Path, compilations: List[str]
) -> None:
    x = torch.rand(4, 4)
    executor = poptorch.inferenceModel(Network(), options())
    expected = executor(x)
    executor.save(tmp_path / "network.poptorch")
    compilations.clear()
    loaded = poptorch.load(str(tmp_path / "network.poptorch"))
    assert torch.equal(loaded(x), expected)
    assert loaded.options.device_iterations == 2
    assert compilations == []
    with pytest.raises(poptorch.Error, match="Shape mismatch for x"):
        loaded(torch.rand(6, 4))


def test_load_may_edit_the_options(tmp_path: Path) -> None:
    poptorch.inferenceModel(Network(), options()).compileAndExport(
        str(tmp_path / "network.poptorch"), torch.rand(4, 4)
    )
    loaded = poptorch.load(
        tmp_path / "network.poptorch",
        lambda options: options.connectionType(poptorch.ConnectionType.OnDemand),
    )
    assert not loaded.isAttachedToDevice()
    assert loaded.isCompiled()


def test_load_refuses_options_that_need_another_executable(tmp_path: Path) -> None:
    path = str(tmp_path / "network.poptorch")
    poptorch.inferenceModel(Network(), options()).compileAndExport(path, torch.rand(4, 4))
    with pytest.raises(poptorch.Error, match=r"Invalid file .*device_iterations is 2 .*, 4 here"):
        poptorch.load(path, lambda options: options.deviceIterations(4))


def test_executable_caching_fits_every_executable(tmp_path: Path) -> None:
    # 1.3: enableExecutableCaching has no effect on results
    path = str(tmp_path / "network.poptorch")
    poptorch.inferenceModel(Network(), options()).compileAndExport(path, torch.rand(4, 4))
    cached = options().enableExecutableCaching(str(tmp_path / "cache"))
    executor = poptorch.inferenceModel(Network(), cached)
    executor.loadExecutable(path)
    assert executor.isCompiled()


def test_load_executable_skips_the_compilation(tmp_path: Path, compilations: List[str]) -> None:
    x = torch.rand(4, 4)
    offline = options()
    offline.useOfflineIpuTarget()
    poptorch.inferenceModel(Network(), offline).compileAndExport(
        str(tmp_path), x, export_model=False
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.poptorch"]
    compilations.clear()
    model = Network()
    executor = poptorch.inferenceModel(model, options())
    executor.loadExecutable(tmp_path / "model.poptorch")
    torch.testing.assert_close(executor(x), model(x).detach())
    assert compilations == []


def test_random_numbers_go_on_where_they_stopped(tmp_path: Path) -> None:
    executor = poptorch.inferenceModel(nn.Dropout(0.5), options(1))
    x = torch.ones(64)
    executor(x)
    executor.save(tmp_path / "kept")
    executor.save(tmp_path / "fresh", save_rng_state=False)
    following = executor(x)
    assert torch.equal(poptorch.load(tmp_path / "kept")(x), following)
    assert not torch.equal(poptorch.load(tmp_path / "fresh")(x), following)


def test_files_without_model_are_for_load_executable_only(tmp_path: Path) -> None:
    poptorch.inferenceModel(Network(), options()).compileAndExport(
        str(tmp_path / "bare"), torch.rand(4, 4), export_model=False
    )
    with pytest.raises(AssertionError, match="export_model=False"):
        poptorch.load(tmp_path / "bare")


def test_other_models_and_options_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "network")
    poptorch.inferenceModel(Network(), options()).compileAndExport(path, torch.rand(4, 4))
    with pytest.raises(poptorch.Error, match=r"Invalid file .*another model.*layer.weight"):
        poptorch.inferenceModel(Network(5), options()).loadExecutable(path)
    with pytest.raises(poptorch.Error, match=r"Invalid file .*other options.*device_iterations"):
        poptorch.inferenceModel(Network(), options(4)).loadExecutable(path)


@pytest.mark.parametrize("content", [b"", b"not a record", None])
def test_unreadable_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AssertionError, match=r"Invalid file .*broken: PopTorch version mismatch"):
        poptorch.load(path)
    with pytest.raises(poptorch.Error, match=r"Invalid file .*broken"):
        poptorch.inferenceModel(Network()).loadExecutable(path)


def test_records_of_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(AssertionError, match="no executable of poptorch_host"):
        poptorch.load(tmp_path / "weights.pt")


def test_save_needs_a_compilation_and_leaves_no_part_behind(tmp_path: Path) -> None:
    executor = poptorch.inferenceModel(Network())
    with pytest.raises(poptorch.Error, match="has not been compiled"):
        executor.save(tmp_path / "early")

    class Local(nn.Module):  # cannot be pickled
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    executor = poptorch.inferenceModel(Local())
    executor.compile(torch.ones(1))
    with pytest.raises((AttributeError, TypeError)):
        executor.save(tmp_path / "local")
    assert list(tmp_path.iterdir()) == []
