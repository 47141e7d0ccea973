"""A loss that is no number ends the run before it is saved; a signal ends it after it is saved."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor

from data.collate import Placement
from detectors.experiment.atomic import write_whole
from detectors.experiment.interrupts import Interrupts, Terminated
from detectors.experiment.lightning_checkpoints import AtomicCheckpointIO, saved_step
from detectors.experiment.lightning_guard import LossGuard, Stopped
from detectors.experiment.lightning_metrics import read_metrics

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def saved(folder: Path) -> int:
    return saved_step(AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt"))


def sending(*numbers: signal.Signals) -> Callable[[], None]:
    def send() -> None:
        for number in numbers:
            signal.raise_signal(number)

    return send


# ---- losses ------------------------------------------------------------------------------------


def guard(
    folder: Path, losses: Tensor, *, done: int = 0, updates: int = 1, rate: float = 0.02
) -> None:
    """Show a guard one call that began after `done` steps, with two images per row of losses."""
    module = SimpleNamespace(
        step=done, updates_per_call=updates, loss_names=("rpn_objectness", "rpn_box")
    )
    known = {"optim/lr": torch.tensor(rate), "optim/grad_norm": torch.tensor(3e4)}
    trainer: Any = SimpleNamespace(
        lightning_module=module, callback_metrics=known, is_global_zero=True
    )
    images = 2 * len(losses)
    batch = SimpleNamespace(
        tensors=(torch.arange(images), torch.arange(images) * 10.0),
        placements=[Placement(f"{row:06}", row, (1, 1), 1.0) for row in range(images)],
    )
    watching = LossGuard(folder)
    watching.on_train_batch_start(trainer, trainer.lightning_module, batch, 0)
    watching.on_train_batch_end(trainer, trainer.lightning_module, {"losses": losses}, batch, 0)


def test_finite_losses_pass(tmp_path: Path) -> None:
    guard(tmp_path, torch.tensor([[0.1, 1e30], [0.0, -1.0]]))
    assert not list(tmp_path.iterdir())


def test_nan_names_term_step_images_and_what_to_try(tmp_path: Path) -> None:
    losses = torch.ones(4, 2)
    losses[2, 1] = float("nan")
    losses[3, 0] = float("inf")
    with pytest.raises(RuntimeError) as caught:
        guard(tmp_path, losses, done=811)
    assert str(caught.value) == (
        "loss_rpn_box became nan at step 812; images 000004, 000005; grad norm 3.0e+04, lr 0.02:"
        f" try optim.lr=0.005, or more optim.warmup_steps\nsaved {tmp_path / 'nan_batch.pt'}"
    )
    kept = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert (kept["step"], kept["term"], kept["names"]) == (
        812,
        "loss_rpn_box",
        ["000004", "000005"],
    )
    assert [tensor.tolist() for tensor in kept["tensors"]] == [[4, 5], [40.0, 50.0]]
    assert kept["losses"].isnan().tolist() == [False, True]


def test_infinity_is_found_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="loss_rpn_objectness became -inf at step 1; "):
        guard(tmp_path, torch.tensor([[-float("inf"), 1.0]]))


def test_a_call_of_several_steps_says_which(tmp_path: Path) -> None:
    losses = torch.ones(6, 2)  # three steps of two micro-batches
    losses[3, 0] = float("nan")
    with pytest.raises(RuntimeError, match="at step 32; images 000006, 000007;"):
        guard(tmp_path, losses, done=30, updates=3)


def test_a_batch_that_cannot_be_saved_does_not_hide_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(f"{LossGuard.__module__}.{write_whole.__name__}", full)
    with pytest.raises(RuntimeError, match=r"became nan(.|\n)*could not be saved: disk full"):
        guard(tmp_path, torch.tensor([[float("nan"), 1.0]]))


def test_a_run_whose_loss_breaks_keeps_its_good_checkpoint(
    tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    run: Any = tiny_run(tmp_path, every_steps=1, callbacks=[at(6, lambda: spoil(run))])
    with pytest.raises(
        RuntimeError, match=r"loss_rpn_box became nan at step 7; images 000006\.jpg"
    ):
        run.fit()
    last = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert saved_step(last) == 6
    assert all(bool(torch.isfinite(value).all()) for value in last["state_dict"].values())
    assert (tmp_path / "nan_batch.pt").exists()


def spoil(run: Any) -> None:
    run.module.model.network.bias.data[0] = float("nan")


# ---- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on_exactly(
    number: signal.Signals, code: int, tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    whole = tiny_run(tmp_path / "whole").fit()
    with Interrupts("step") as interrupts:
        stopped = tiny_run(
            tmp_path / "two",
            every_steps=0,
            interrupts=interrupts,
            callbacks=[at(7, sending(number))],
        )
        with pytest.raises(Stopped, match=r"^saved last\.ckpt \(step 8\)$") as caught:
            stopped.fit()
    assert caught.value.exit_code == interrupts.exit_code == code
    assert (caught.value.step, saved(tmp_path / "two")) == (8, 8)
    assert logged(tmp_path / "two") == logged(tmp_path / "whole")[:8]
    again = tiny_run(tmp_path / "two", resume=True).fit()
    assert torch.equal(again.weight, whole.weight)
    assert logged(tmp_path / "two") == logged(tmp_path / "whole")


def logged(folder: Path) -> List[Dict[str, str]]:
    """`metrics.csv` without what a clock says."""
    rows = read_metrics(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in rows]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_second_signal_ends_it_at_once_with_the_previous_checkpoint(
    number: signal.Signals, code: int, tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    with Interrupts("step") as interrupts:
        run = tiny_run(tmp_path, interrupts=interrupts, callbacks=[at(7, sending(number, number))])
        with pytest.raises(Terminated) as caught:
            run.fit()
    assert not isinstance(caught.value, Stopped)
    assert caught.value.exit_code == code
    assert saved(tmp_path) == 5  # before its evaluation


def test_a_signal_before_an_evaluation_does_not_wait_for_it(
    tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    with Interrupts("step") as interrupts:
        run = tiny_run(tmp_path, interrupts=interrupts, callbacks=[at(9, sending(signal.SIGTERM))])
        with pytest.raises(Stopped, match="step 10"):
            run.fit()
    assert [step for step, _ in run.judge.seen] == [5]
    assert tiny_run(tmp_path, resume=True).fit().judge.seen == [(10, 3)]


def test_a_signal_in_an_evaluation_ends_it(tmp_path: Path, tiny_run: Any, at: Any) -> None:
    with Interrupts("step") as interrupts:
        send = at(10, sending(signal.SIGINT), evaluation=True)
        run = tiny_run(tmp_path, every_steps=0, interrupts=interrupts, callbacks=[send])
        with pytest.raises(Stopped, match="step 10"):
            run.fit()
    assert saved(tmp_path) == 10
    assert tiny_run(tmp_path, resume=True).fit().judge.seen == [(10, 3)]


def test_a_signal_in_the_middle_of_a_step_of_batches_waits_for_its_end(
    tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    with Interrupts("step") as interrupts:
        run = tiny_run(
            tmp_path,
            6,
            images_per_step=3,
            interrupts=interrupts,
            callbacks=[at(2, once(sending(signal.SIGTERM)))],
        )
        with pytest.raises(Stopped, match="step 3"):
            run.fit()
    assert saved(tmp_path) == 3


def once(act: Callable[[], None]) -> Callable[[], None]:
    """`act`, the first time."""
    todo = [act]
    return lambda: todo.pop()() if todo else None


def test_a_signal_in_the_last_step_lets_the_run_end(tmp_path: Path, tiny_run: Any, at: Any) -> None:
    with Interrupts("step") as interrupts:
        run = tiny_run(
            tmp_path, 7, interrupts=interrupts, callbacks=[at(6, sending(signal.SIGINT))]
        )
        run.fit()
    assert saved(tmp_path) == 7


def test_after_a_run_signals_raise_again(tmp_path: Path, tiny_run: Any) -> None:
    with Interrupts("step") as interrupts:
        tiny_run(tmp_path, 2, interrupts=interrupts).fit()
        for number, code in SIGNALS:
            with pytest.raises(Terminated) as caught:
                signal.raise_signal(number)
            assert caught.value.exit_code == code
