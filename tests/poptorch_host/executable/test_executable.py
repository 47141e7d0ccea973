"""Saved executables run without a compilation, and only for what they were made for (2.11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host.executable import executable


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


# ---- 2.11: what a record holds -----------------------------------------------------------------


class Learner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.drop(self.layer(x)).square(), "mean")


def learner(seed: int = 3) -> Any:
    model = Learner()
    optimizer = poptorch.optim.AdamW(model.parameters(), lr=0.1, loss_scaling=4.0)
    chosen = poptorch.Options().randomSeed(seed)
    chosen.Training.gradientAccumulation(2)
    return poptorch.trainingModel(model, chosen, optimizer)


def test_a_training_record_goes_on_to_the_last_digit(tmp_path: Path) -> None:
    # model, optimizer with its state, random numbers
    x = torch.ones(4, 2)
    executor = learner()
    executor(x)
    executor.save(tmp_path / "kept")
    executor(x)
    loaded: Any = poptorch.load(tmp_path / "kept")
    assert type(loaded.model).__name__ == "PoptorchLearner"
    assert isinstance(loaded._optimizer, poptorch.optim.AdamW)
    assert loaded._optimizer.loss_scaling == 4.0
    assert loaded.options.random_seed == 3
    loaded(x)
    for one, other in zip(loaded.state_dict().values(), executor.state_dict().values()):
        assert torch.equal(one, other)


def test_an_executable_compiled_offline_trains_on_a_device(
    tmp_path: Path, compilations: List[str]
) -> None:
    x = torch.ones(4, 2)
    path = tmp_path / "deep" / "offline"
    model = Learner()
    chosen = poptorch.Options().randomSeed(3).useOfflineIpuTarget()
    chosen.Training.gradientAccumulation(2)
    offline = poptorch.trainingModel(model, chosen)
    offline.compileAndExport(path, x, export_model=False)
    assert not offline.isAttachedToDevice()
    compilations.clear()
    executor = learner()
    executor.loadExecutable(path)
    assert executor.isAttachedToDevice()
    executor(x)
    assert compilations == []
    assert not torch.equal(executor.model.layer.weight, Learner().layer.weight)


def test_compile_and_export_attaches_as_compile_does(tmp_path: Path) -> None:
    executor = poptorch.inferenceModel(Network())
    executor.compileAndExport(tmp_path / "file", torch.rand(2, 4))
    assert executor.isAttachedToDevice()
    executor.compileAndExport(tmp_path / "again", torch.rand(2, 4))  # compiled: only saved
    assert (tmp_path / "again").exists()


def test_load_executable_takes_the_weights_of_the_model(tmp_path: Path) -> None:
    # 2.11: weights are not in the executable part
    first = poptorch.inferenceModel(Network())
    first.compileAndExport(tmp_path / "file", torch.rand(2, 4), export_model=False)
    model = Network()
    nn.init.zeros_(model.layer.weight)
    nn.init.ones_(model.layer.bias)
    executor = poptorch.inferenceModel(model)
    executor.loadExecutable(tmp_path / "file")
    assert executor(torch.rand(2, 4)).tolist() == [[2.0, 2.0]] * 2


def test_another_version_is_a_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    poptorch.inferenceModel(Network()).compileAndExport(path, torch.rand(2, 4))
    monkeypatch.setattr(executable, "__version__", "3.5.0")
    words = (
        rf"Invalid file .*file: PopTorch version mismatch: .*{poptorch.__version__[:5]}.*3\.5\.0"
    )
    with pytest.raises(AssertionError, match=words):
        poptorch.load(path)
    with pytest.raises(poptorch.Error, match=words):
        poptorch.inferenceModel(Network()).loadExecutable(path)


def test_a_training_record_is_not_for_inference(tmp_path: Path) -> None:
    learner().compileAndExport(tmp_path / "file", torch.ones(4, 2))
    chosen = poptorch.Options().outputMode(poptorch.OutputMode.Final)
    with pytest.raises(poptorch.Error, match=r"Invalid file"):
        poptorch.inferenceModel(Learner(), chosen).loadExecutable(tmp_path / "file")


def test_files_may_be_read_by_others(tmp_path: Path) -> None:
    # They once had the mode of a temporary file.
    (tmp_path / "plain").write_bytes(b"")
    poptorch.inferenceModel(Network()).compileAndExport(tmp_path / "file", torch.rand(2, 4))
    modes = [(tmp_path / name).stat().st_mode for name in ("plain", "file")]
    assert modes[0] == modes[1]
