"""Lightning's loop around PopTorch's executors trains what a plain Trainer trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import lightning.pytorch as lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import detectors.experiment.lightning_strategy as lightning_strategy
from detectors import efficientdet
from detectors.experiment.lightning_accelerator import IPUAccelerator
from detectors.experiment.lightning_module import DetectionModule
from detectors.experiment.lightning_strategy import PopTorchStrategy
from detectors.models.efficientdet.inference import EfficientDet
from poplar_ops.runtime import IS_HOST, poptorch
from poptorch_host.engine.training_engine import TrainingEngine
from tests.detectors.experiment.lightning_runs import conftest

Build = Callable[..., Any]
# torch 2.0.1 warns of its own reading
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


def poptorch_sgd(module: torch.nn.Module) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = poptorch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    return made


def assert_close(found: Dict[str, Tensor], expected: Dict[str, Tensor]) -> None:
    counters = "num_batches_tracked"  # a constant on the device
    for name, weight in expected.items():
        if not name.endswith(counters):
            torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-6, msg=name)


def test_ten_steps_give_the_weights_of_a_plain_trainer(run: Build) -> None:
    plain, ours = run("torch"), run("poptorch")
    assert_close(ours.weights, plain.weights)
    assert (plain.weights["network.0.weight"] - run("torch", 1).weights["network.0.weight"]).any()
    for found, expected in zip(ours.steps, plain.steps):
        assert found == pytest.approx(expected, rel=1e-5)
    assert [step for step, _, _ in ours.steps] == list(range(1, 11))
    seven = [f"picture {number}" for number in range(7)]  # three a batch: the last is filled up
    assert [one[:2] for one in ours.validations] == [(4, seven), (8, seven)]
    for found, expected in zip(ours.validations, plain.validations):
        assert found[2] == pytest.approx(expected[2], rel=1e-5)


def test_faster_rcnn_trains_for_ten_steps_as_in_a_plain_trainer(
    run: Build, small_faster_rcnn: Build
) -> None:
    settings: Dict[str, Any] = {"steps": 10, "validate_every": 11, "lr": 0.01}
    trunk = "network.backbone.conv1.weight"
    before = small_faster_rcnn().state_dict()[trunk]
    plain = run("torch", model=small_faster_rcnn(), **settings)
    ours = run("poptorch", model=small_faster_rcnn(), splits=["rpn"], **settings)
    assert_close(ours.weights, plain.weights)
    assert not torch.equal(plain.weights[trunk], before)
    for found, expected in zip(ours.steps, plain.steps):
        assert found == pytest.approx(expected, rel=1e-5)


def test_device_iterations_are_steps_of_one_call(run: Build) -> None:
    paired = run("poptorch", updates_per_call=2)
    assert paired.trainer.global_step == 5
    assert [step for step, _, _ in paired.steps] == [0 + 2, 4, 6, 8, 10]
    assert [rate for _, _, rate in paired.steps] == pytest.approx(
        [0.1, 0.1 / 3, 0.1 / 5, 0.1 / 7, 0.1 / 9]  # that of the call's first step
    )
    assert [step for step, _, _ in paired.validations] == [4, 8]
    assert [len(rows) for rows in paired.rows] == [8] * 5


def test_every_micro_batch_returns_its_losses(run: Build) -> None:
    plain, ours = run("torch", steps=2), run("poptorch", steps=2)
    assert [len(rows) for rows in plain.rows] == [1] * 8
    assert [len(rows) for rows in ours.rows] == [4, 4]
    flat = [row for rows in plain.rows for row in rows]
    torch.testing.assert_close(
        torch.tensor([row for rows in ours.rows for row in rows]), torch.tensor(flat)
    )
    # what is logged is the mean over them
    mean = torch.tensor(ours.rows[0]).sum(dim=1).mean().item()
    assert ours.steps[0][1] == pytest.approx(mean)
    assert plain.steps[0][1] == pytest.approx(mean)


def test_mixed_precision_changes_nothing_on_a_cpu(run: Build) -> None:
    plain, mixed = run("poptorch", steps=2), run("poptorch", steps=2, precision="mixed")
    for name, weight in plain.weights.items():
        assert torch.equal(mixed.weights[name], weight), name


@pytest.mark.skipif(not IS_HOST, reason="the SDK is what is stood in for")
def test_mixed_precision_halves_trunk_and_rpn_on_an_ipu(
    run: Build, small_faster_rcnn: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightning_strategy, "IS_HOST", False)
    settings: Dict[str, Any] = {"steps": 1, "validate_every": 1, "precision": "mixed"}
    ours = run("poptorch", model=small_faster_rcnn(), **settings)
    assert ours.weights["network.backbone.conv1.weight"].dtype is torch.float16
    assert ours.weights["network.rpn.conv.weight"].dtype is torch.float16
    assert ours.weights["network.box_head.class_logits.weight"].dtype is torch.float32
    plain = run("torch", model=small_faster_rcnn(), steps=1)
    assert ours.steps[0][1] == pytest.approx(plain.steps[0][1], rel=0.02)


@pytest.mark.skipif(not IS_HOST, reason="the SDK is what is stood in for")
def test_mixed_precision_halves_backbone_and_pyramid_on_an_ipu(
    run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small() -> EfficientDet:
        torch.manual_seed(0)
        return efficientdet("d0", num_classes=3, image_size=64)

    # At 32 pixels batch norms of one cell see two values, and gradients are beyond half's range.
    monkeypatch.setattr(conftest, "SIZE", 64)
    monkeypatch.setattr(lightning_strategy, "IS_HOST", False)
    settings: Dict[str, Any] = {"steps": 1, "validate_every": 1, "precision": "mixed"}
    ours = run("poptorch", model=small(), **settings)
    halves = {name for name, weight in ours.weights.items() if weight.dtype is torch.float16}
    counters = {name for name in ours.weights if name.endswith("num_batches_tracked")}
    trunk = ("network.backbone.", "network.bifpn.")
    assert halves == {name for name in ours.weights if name.startswith(trunk)} - counters
    assert all(weight.isfinite().all() for weight in ours.weights.values())
    moved = "network.backbone.stem.conv.weight"
    assert not torch.equal(ours.weights[moved], small().half().state_dict()[moved])
    plain = run("torch", model=small(), steps=1)
    assert ours.steps[0][1] == pytest.approx(plain.steps[0][1], rel=0.05)


@pytest.mark.skipif(not IS_HOST, reason="counts the copies of poptorch_host")
def test_weights_stay_on_the_device_until_somebody_asks(
    run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    original = TrainingEngine.download

    def counted(engine: TrainingEngine, weights: Dict[str, torch.Tensor]) -> None:
        copies.append(engine)
        original(engine, weights)

    monkeypatch.setattr(TrainingEngine, "download", counted)
    run("poptorch", steps=4, validate_every=10)
    assert len(copies) == 1  # at the end
    run("poptorch", steps=4, validate_every=2)
    assert len(copies) == 1 + 2  # for two validations, after the second of which nothing changed


def test_after_the_run_the_model_is_plain_again(run: Build) -> None:
    ours = run("poptorch", steps=1)
    assert type(ours.module.training_model).__name__ == "TinyTraining"
    assert {type(one) for one in ours.model.parameters()} == {torch.nn.Parameter}
    assert ours.trainer.strategy.training is None
    assert ours.module.run_training == ours.module.train_here


def test_a_failed_run_leaves_a_plain_model_too(run: Build) -> None:
    ours = run("poptorch", kill_after=2)
    assert {type(one) for one in ours.model.parameters()} == {torch.nn.Parameter}
    whole = run("poptorch", steps=2)
    for name, weight in whole.weights.items():
        assert torch.equal(ours.weights[name], weight), name  # what was trained so far


def test_checkpoints_are_plain_tensors_and_types(run: Build, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    run("poptorch", kill_after=3, save=(3, "on_train_batch_end", path))
    checkpoint = torch.load(path, weights_only=True)
    whole = run("poptorch", steps=3).weights
    assert set(checkpoint["state_dict"]) == {f"model.{name}" for name in whole}
    for name, weight in whole.items():
        assert type(checkpoint["state_dict"][f"model.{name}"]) is Tensor
        assert torch.equal(checkpoint["state_dict"][f"model.{name}"], weight)
    state = checkpoint["optimizer_states"][0]["ipu_state"]
    assert "Accl1___network.0.weight" in state


def test_a_run_of_torch_cannot_go_on_here(run: Build, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    run("torch", kill_after=3, save=(3, "on_train_batch_end", path))
    with pytest.raises(ValueError, match="trained without PopTorch"):
        run("poptorch", resume=path)


def test_a_user_may_validate_without_training(
    tiny: Build, tiny_data: Build, trainer: Build, strategy: Build
) -> None:
    model = tiny()
    judge = First()
    module = DetectionModule(model, judge=judge)
    trainer(accelerator="poptorch", strategy=strategy()).validate(
        module, tiny_data(1), verbose=False
    )
    batch = next(iter(tiny_data(1).val_dataloader()))
    with torch.no_grad():
        torch.testing.assert_close(judge.first, model.eval()(batch.images).scores)


class First:
    first: Any = None

    def add(self, detections: Any, placements: Any) -> None:
        self.first = detections.scores if self.first is None else self.first

    def finish(self, step: int) -> Dict[str, float]:
        return {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"accumulate_grad_batches": 4}, "set gradient_accumulation in the recipe"),
        ({"gradient_clip_val": 1.0}, "set optim.max_grad_norm in the recipe"),
        ({"precision": "bf16-mixed"}, "set precision=mixed in the recipe"),
    ],
)
def test_what_is_poptorchs_is_refused_to_the_trainer(
    arguments: Dict[str, Any],
    words: str,
    tiny: Build,
    tiny_data: Build,
    trainer: Build,
    strategy: Build,
) -> None:
    module = DetectionModule(tiny(), build_optimizer=poptorch_sgd)
    machine: Dict[str, Any] = {"accelerator": "cpu", "strategy": strategy()}
    with pytest.raises(ValueError, match=words):
        trainer(**machine, **arguments).fit(module, tiny_data(1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"build_optimizer": None}, "needs an optimizer of poptorch.optim, got SGD"),
        ({"splits": ["network.9"]}, "pipeline.splits 'network.9' is no module"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_step(
    changes: Dict[str, Any],
    words: str,
    tiny: Build,
    tiny_data: Build,
    trainer: Build,
    strategy: Build,
) -> None:
    module = DetectionModule(tiny(), build_optimizer=changes.get("build_optimizer", poptorch_sgd))
    machine = strategy(changes.get("splits", ()))
    with pytest.raises(ValueError, match=words):
        trainer(accelerator="poptorch", strategy=machine).fit(module, tiny_data(1))
    assert type(module.training_model).__name__ == "TinyTraining"


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be fp32 or mixed, got 'half'"):
        PopTorchStrategy(poptorch.Options(), poptorch.Options(), precision="half")


def test_another_module_is_refused(trainer: Build, strategy: Build, tiny_data: Build) -> None:
    with pytest.raises(TypeError, match="runs a DetectionModule, got Other"):
        trainer(accelerator="poptorch", strategy=strategy()).validate(Other(), tiny_data(1))


class Other(lightning.LightningModule):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


def test_a_loader_without_a_batch_size_is_refused(
    tiny: Build, tiny_data: Build, trainer: Build, strategy: Build
) -> None:
    loader = tiny_data(1).train_dataloader()
    batches = DataLoader(loader.dataset, batch_sampler=[[0, 1]], collate_fn=loader.collate_fn)
    module = DetectionModule(tiny(), build_optimizer=poptorch_sgd)
    with pytest.raises(ValueError, match="give the DataLoader batch_size and sampler"):
        trainer(accelerator="poptorch", strategy=strategy()).fit(
            module, batches, tiny_data(1).val_dataloader()
        )


@pytest.mark.skipif(IPUAccelerator.is_available(), reason="there is an IPU")
def test_an_ipu_that_is_not_there_is_refused(trainer: Build, strategy: Build) -> None:
    with pytest.raises(Exception, match="IPUAccelerator` can not run on your system"):
        trainer(accelerator="ipu", strategy=strategy())


def test_more_devices_are_refused(trainer: Build, strategy: Build) -> None:
    with pytest.raises(ValueError, match="replication_factor"):
        trainer(accelerator="poptorch", strategy=strategy(), devices=2)
