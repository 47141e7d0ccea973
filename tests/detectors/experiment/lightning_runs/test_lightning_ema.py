"""Averaged weights are evaluated and saved; training does not see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from detectors.experiment.lightning_checkpoints import AtomicCheckpointIO
from detectors.experiment.lightning_ema import WeightAverage
from detectors.experiment.lightning_module import DetectionModule
from detectors.weights.source import AVERAGED

Build = Callable[..., Any]
State = Dict[str, Tensor]
# torch 2.0.1 warns of its own reading
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

KINDS = pytest.mark.parametrize("kind", ["torch", "poptorch"])


class Looks(Callback):
    """Copies the model's state after every update, and at every evaluation; stands first."""

    def __init__(self) -> None:
        self.trained: List[State] = []
        """The start, and after each call."""
        self.evaluated: List[State] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.trained.append(copy(pl_module.model))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == len(self.trained):
            self.trained.append(copy(pl_module.model))

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0:
            self.evaluated.append(copy(pl_module.model))


class Act(Callback):
    """Acts in the middle of the first evaluation."""

    def __init__(self, act: Callable[[lightning.Trainer], None]) -> None:
        self.act: Optional[Callable[[lightning.Trainer], None]] = act

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, *arguments: Any, **named: Any
    ) -> None:
        act, self.act = self.act, None
        if act is not None:
            act(trainer)


def copy(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def by_hand(states: List[State], decay: float, updates: int = 1) -> State:
    """The averages of the last state, in double precision; `updates` between two states."""
    found = {name: value.double() for name, value in states[0].items()}
    for number, state in enumerate(states[1:], start=1):
        kept = 1.0
        for n in range((number - 1) * updates + 1, number * updates + 1):
            kept *= min(decay, (1 + n) / (10 + n))
        found = {
            name: kept * found[name] + (1 - kept) * value.double() for name, value in state.items()
        }
    return found


def assert_averages(found: State, expected: State) -> None:
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def load(path: Path) -> Dict[str, Any]:
    return AtomicCheckpointIO().load_checkpoint(path)


def states(checkpoint: Dict[str, Any]) -> Tuple[State, State]:
    """Raw weights and averages, by the model's names."""

    def plain(state: State) -> State:
        return {name[len("model.") :]: value for name, value in state.items()}

    return plain(checkpoint["state_dict"]), plain(checkpoint[AVERAGED])


class Scalar(nn.Module):
    """One weight that falls by the learning rate at every update."""

    loss_names = ("weight",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))

    def for_training(self) -> nn.Module:
        return self

    def forward(self, *tensors: Tensor) -> Tuple[Tensor, Tensor]:
        loss = self.weight.reshape(1)
        return loss.sum(), loss


def test_three_updates_of_one_weight_by_hand(tiny_data: Build, trainer: Build) -> None:
    average = WeightAverage(0.3)
    module = DetectionModule(
        Scalar(), build_optimizer=lambda one: torch.optim.SGD(one.parameters(), lr=1.0)
    )
    made = trainer(max_steps=3, callbacks=[average], accelerator="cpu")
    made.fit(module, tiny_data(3))
    # decays 2/11, 3/12, and .3 since 4/13 is more; weights 10, 9, 8, 7
    first = 2 / 11 * 10 + 9 / 11 * 9
    second = first / 4 + 3 / 4 * 8
    assert average.step == 3
    assert float(average.averages["weight"]) == pytest.approx(0.3 * second + 0.7 * 7)
    assert module.model.state_dict()["weight"].item() == 7.0


@KINDS
def test_ten_updates_are_averaged_as_by_hand(run: Build, kind: str) -> None:
    average, looks = WeightAverage(0.5), Looks()
    run(kind, callbacks=[looks, average])
    assert len(looks.trained) == 1 + 10
    assert average.step == 10
    assert_averages(average.averages, by_hand(looks.trained, 0.5))
    moved = average.averages["network.1.running_mean"] - looks.trained[-1]["network.1.running_mean"]
    assert float(moved.abs().max()) > 1e-4


@KINDS
def test_evaluations_see_the_averages_and_training_does_not(
    run: Build, tiny: Build, kind: str
) -> None:
    looks = Looks()
    found = run(kind, callbacks=[looks, WeightAverage(0.9)])
    plain = run(kind)
    assert_equal(found.weights, plain.weights)
    assert found.steps == plain.steps
    for step, evaluated in zip((4, 8), looks.evaluated):
        assert_averages(evaluated, by_hand(looks.trained[: step + 1], 0.9))
    # the second finds the inference executor compiled
    for said, evaluated, other in zip(found.validations, looks.evaluated, plain.validations):
        model = tiny()
        model.load_state_dict(evaluated)
        pictures = torch.stack(
            [image for batch in found.trainer.datamodule.val_dataloader() for image in batch.images]
        )
        with torch.no_grad():
            expected = float(model(pictures).scores.mean())
        assert said[2] == pytest.approx(expected, rel=1e-5)
        assert said[2] != pytest.approx(other[2], rel=1e-4)


def test_device_iterations_count_as_updates(run: Build) -> None:
    average, looks = WeightAverage(0.5), Looks()
    run("poptorch", updates_per_call=2, callbacks=[looks, average])
    assert len(looks.trained) == 1 + 5
    assert average.step == 10
    assert_averages(average.averages, by_hand(looks.trained, 0.5, updates=2))


def test_a_look_at_every_third_update_stands_for_three(run: Build) -> None:
    average, looks = WeightAverage(0.5, every=3), Looks()
    run("poptorch", callbacks=[looks, average])
    assert average.step == 9
    assert_averages(average.averages, by_hand(looks.trained[:10:3], 0.5, updates=3))


@KINDS
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end"])
def test_a_resumed_run_has_the_averages_of_the_whole_one(
    run: Build, tmp_path: Path, kind: str, hook: str
) -> None:
    path, whole, again = tmp_path / "last.ckpt", WeightAverage(0.9, 3), WeightAverage(0.9, 3)
    expected = run(kind, callbacks=[whole])
    run(kind, callbacks=[WeightAverage(0.9, 3)], save=(4, hook, path), kill_after=6)
    assert load(path)["ema_step"] == 3
    found = run(kind, callbacks=[again], resume=path)
    assert_equal(found.weights, expected.weights)
    assert_equal(again.averages, whole.averages)
    assert found.validations == expected.validations[-len(found.validations) :]


@KINDS
def test_checkpoints_have_the_raw_weights_and_complete_averages(
    run: Build, tmp_path: Path, kind: str
) -> None:
    path, looks = tmp_path / "last.ckpt", Looks()
    run(kind, callbacks=[looks, WeightAverage(0.9)], save=(4, "on_validation_end", path))
    raw, averages = states(torch.load(path, weights_only=True))
    assert_equal(raw, looks.trained[4])
    assert_equal(averages, looks.evaluated[0])


@KINDS
def test_a_checkpoint_in_the_middle_of_an_evaluation_is_the_same(
    run: Build, tmp_path: Path, kind: str
) -> None:
    path, looks = tmp_path / "last.ckpt", Looks()
    save = Act(lambda trainer: trainer.save_checkpoint(path, weights_only=False))
    run(kind, callbacks=[looks, WeightAverage(0.9), save])
    raw, averages = states(load(path))
    assert_equal(raw, looks.trained[4])
    assert_equal(averages, looks.evaluated[0])


@KINDS
def test_an_evaluation_that_fails_leaves_the_raw_weights(
    run: Build, kind: str, tiny: Build
) -> None:
    def fail(trainer: lightning.Trainer) -> None:
        raise InterruptedError

    looks, model = Looks(), tiny()
    with pytest.raises(InterruptedError):
        run(kind, callbacks=[looks, WeightAverage(0.9), Act(fail)], model=model)
    assert_equal(copy(model), looks.trained[4])


def test_frozen_weights_take_no_room_twice(run: Build, tiny: Build, tmp_path: Path) -> None:
    model, path = tiny(), tmp_path / "last.ckpt"
    model.network[0].weight.requires_grad_(False)
    average = WeightAverage(0.9)
    settings: Dict[str, Any] = {"model": model, "callbacks": [average]}
    run("poptorch", 4, save=(4, "on_validation_end", path), **settings)
    assert "network.0.weight" not in average.averages
    raw, averages = states(load(path))
    assert raw.keys() == averages.keys()
    name = "network.0.weight"
    assert averages[name].data_ptr() == raw[name].data_ptr()
    assert averages["network.0.bias"].data_ptr() != raw["network.0.bias"].data_ptr()


def test_a_run_without_averages_cannot_go_on_with_them(run: Build, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    run("poptorch", 4, save=(4, "on_validation_end", path))
    with pytest.raises(ValueError, match=r"no averages of its weights .* leave optim\.ema at 0"):
        run("poptorch", resume=path, callbacks=[WeightAverage(0.9)])


@pytest.mark.parametrize("arguments", [(1.0,), (-0.1,), (0.9, 0)])
def test_arguments_out_of_range_are_refused(arguments: Tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WeightAverage(*arguments)
