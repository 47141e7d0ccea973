"""A detector as a LightningModule under a plain Trainer."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Sequence, cast

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from detectors.experiment.lightning_module import DetectionModule

Build = Callable[..., Any]
# torch 2.0.1 warns of its own reading
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")


class Rows(Logger):
    """Keeps what is logged."""

    name = "rows"
    version = 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: List[Any] = []

    def log_metrics(self, metrics: Dict[str, float], step: Any = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """None."""


class Never:
    """A judge who is not to be asked."""

    def add(self, detections: Any, placements: Sequence[Any]) -> None:
        raise AssertionError("asked")

    def finish(self, step: int) -> Dict[str, float]:
        raise AssertionError("asked")


class Counting(Never):
    def add(self, detections: Any, placements: Sequence[Any]) -> None:
        """Nothing."""

    def finish(self, step: int) -> Dict[str, float]:
        return {"AP50_voc07": step / 10}


def test_names_and_steps_that_are_logged(tiny: Build, tiny_data: Build, trainer: Build) -> None:
    rows = Rows()
    module = DetectionModule(tiny(), judge=Counting(), learning_rate=lambda step: 0.5 + step)
    trainer(
        max_steps=2,
        accumulate_grad_batches=4,
        val_check_interval=8,
        log_every_n_steps=1,
        logger=rows,
    ).fit(module, tiny_data(2))
    training = {"train/loss", "train/loss_edge", "train/loss_key", "optim/lr"}
    assert [step for step, _ in rows.rows] == [1, 2, 2]
    assert [set(metrics) for _, metrics in rows.rows] == [training, training, {"val/AP50_voc07"}]
    assert [rows.rows[i][1]["optim/lr"] for i in range(2)] == [0.5, 1.5]
    assert rows.rows[2][1]["val/AP50_voc07"] == pytest.approx(0.2)
    first = rows.rows[0][1]
    assert first["train/loss"] == pytest.approx(first["train/loss_edge"] + first["train/loss_key"])


def test_a_users_own_trainer_needs_no_more_than_model_and_data(
    small_faster_rcnn: Build, tiny_data: Build, trainer: Build
) -> None:
    model = small_faster_rcnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own = trainer(precision="bf16-mixed", accumulate_grad_batches=4, accelerator="cpu")
    own.fit(DetectionModule(model), tiny_data(1))
    assert own.global_step == 1
    changed = [name for name, value in model.state_dict().items() if (value != before[name]).any()]
    assert "network.rpn.conv.weight" in changed
    assert all(value.dtype is torch.float32 for value in model.state_dict().values())


def test_checkpoints_hold_the_model_once_and_the_record(
    tiny: Build, tiny_data: Build, trainer: Build, tmp_path: Path
) -> None:
    model = tiny()
    module = DetectionModule(model, record={"family": "tiny", "class_names": ["a"]})
    mine = trainer(accelerator="cpu")
    mine.fit(module, tiny_data(1))
    mine.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert checkpoint["detectors"] == {"family": "tiny", "class_names": ["a"]}
    state = model.state_dict()
    assert list(checkpoint["state_dict"]) == [f"model.{name}" for name in state]
    other = DetectionModule(tiny())
    other.load_state_dict(checkpoint["state_dict"])
    for name, weight in state.items():
        assert torch.equal(other.model.state_dict()[name], weight)
        assert torch.equal(other.training_model.state_dict()[name], weight)


def test_weights_of_something_else_are_refused(tiny: Build) -> None:
    with pytest.raises(RuntimeError, match=r"network\.0\.weight"):
        DetectionModule(tiny()).load_state_dict({"network.0.weight": torch.zeros(1)})


def test_without_a_judge_nothing_is_validated(
    tiny: Build, tiny_data: Build, trainer: Build
) -> None:
    class Refuse(Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            raise AssertionError("validated")

    trainer(callbacks=[Refuse()]).fit(DetectionModule(tiny()), tiny_data(1))


def test_a_judge_of_a_share_of_the_pictures_is_refused(tiny: Build) -> None:
    module = DetectionModule(tiny(), judge=Never())
    module.trainer = cast(Any, SimpleNamespace(world_size=2))  # what strategy="ddp", devices=2 have
    with pytest.raises(ValueError, match="all pictures in one process, here are 2"):
        module.setup("fit")


def test_the_sanity_check_is_not_judged(tiny: Build, tiny_data: Build, trainer: Build) -> None:
    module = DetectionModule(tiny(), judge=Never())
    trainer(num_sanity_val_steps=2, check_val_every_n_epoch=9).fit(module, tiny_data(1))


def test_training_is_in_training_mode_and_validation_is_not(
    tiny: Build, tiny_data: Build, trainer: Build
) -> None:
    modes = []

    class Modes(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            modes.append(("train", pl_module.model.network[1].training))

        def on_validation_batch_start(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            modes.append(("val", pl_module.model.network[1].training))

    module = DetectionModule(tiny(), judge=Counting())
    module.model.eval()  # as whoever built it may leave it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*LeafSpec")
        warnings.filterwarnings("ignore", ".*does not have many workers")
        trainer(callbacks=[Modes()], max_steps=2, val_check_interval=1).fit(module, tiny_data(1))
    val = [("val", False)] * 3
    assert modes == [("train", True), *val, ("train", True), *val]


def test_losses_of_a_step_are_averaged_over_its_micro_batches(
    tiny: Build, tiny_data: Build, trainer: Build
) -> None:
    model, data = tiny(), tiny_data(1)
    training = model.for_training()
    with torch.no_grad():
        expected = torch.stack([training(*batch.tensors)[1] for batch in data.train_dataloader()])
    mine: lightning.Trainer = trainer(accumulate_grad_batches=4)
    mine.fit(DetectionModule(model), data)
    found = mine.callback_metrics
    assert float(found["train/loss_edge"]) == pytest.approx(float(expected[:, 0].mean()))
    assert float(found["train/loss"]) == pytest.approx(float(expected.sum(dim=1).mean()))
