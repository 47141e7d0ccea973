"""`last.ckpt` lets a run go on exactly, `best.ckpt` is the best, neither is ever half a file."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch

import detectors.experiment.lightning_checkpoints as lightning_checkpoints
from detectors.experiment.atomic import DiskFullError
from detectors.experiment.lightning_checkpoints import AtomicCheckpointIO, saved_step
from detectors.experiment.lightning_metrics import read_metrics


class KilledError(Exception):
    """Stands for the end of a process."""


def killed() -> None:
    raise KilledError


def load(path: Path) -> Dict[str, Any]:
    return AtomicCheckpointIO().load_checkpoint(path)


def rows(folder: Path) -> List[Dict[str, str]]:
    """Of `metrics.csv`, without what a clock says."""
    return [
        {key: value for key, value in row.items() if not key.startswith("speed/")}
        for row in read_metrics(folder / "metrics.csv")
    ]


@pytest.mark.parametrize("killed_after", [5, 6, 10, 11])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    killed_after: int, tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    scores = {5: 0.5, 10: 0.75}
    whole = tiny_run(tmp_path / "whole", scores=scores, log_every=3).fit()
    with pytest.raises(KilledError):
        tiny_run(
            tmp_path / "two", scores=scores, log_every=3, callbacks=[at(killed_after, killed)]
        ).fit()
    again = tiny_run(tmp_path / "two", scores=scores, log_every=3, resume=True).fit()
    assert torch.equal(again.weight, whole.weight)
    assert rows(tmp_path / "two") == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "two")] == ["3", "5", "6", "9", "10", "12"]
    assert again.checkpoints.state_dict() == {"best_score": 0.75, "best_step": 10}
    assert saved_step(load(tmp_path / "two" / "best.ckpt")) == 10


def test_a_run_killed_while_it_evaluates_evaluates_all_of_it_again(
    tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    with pytest.raises(KilledError):
        tiny_run(tmp_path, callbacks=[at(10, killed, evaluation=True)]).fit()
    assert saved_step(load(tmp_path / "last.ckpt")) == 10
    again = tiny_run(tmp_path, resume=True).fit()
    assert again.judge.seen == [(10, 3)]


def test_a_finished_run_goes_on_to_a_later_end(tmp_path: Path, tiny_run: Any) -> None:
    whole = tiny_run(tmp_path / "whole", 12).fit()
    tiny_run(tmp_path / "two", 7).fit()
    assert saved_step(load(tmp_path / "two" / "last.ckpt")) == 7
    again = tiny_run(tmp_path / "two", 12, resume=True).fit()
    assert torch.equal(again.weight, whole.weight)
    assert rows(tmp_path / "two") == rows(tmp_path / "whole")


def test_a_step_of_several_batches_is_saved_when_it_is_whole(
    tmp_path: Path, tiny_run: Any, at: Any
) -> None:
    settings: Dict[str, Any] = {"images_per_step": 3, "evaluate_every": 100}
    whole = tiny_run(tmp_path / "whole", 6, **settings).fit()
    with pytest.raises(KilledError):
        tiny_run(tmp_path / "two", 6, callbacks=[at(5, killed)], **settings).fit()
    assert saved_step(load(tmp_path / "two" / "last.ckpt")) == 4
    again = tiny_run(tmp_path / "two", 6, resume=True, **settings).fit()
    assert torch.equal(again.weight, whole.weight)


def test_best_is_the_first_of_the_highest(tmp_path: Path, tiny_run: Any) -> None:
    scores = {2: 0.25, 4: float("nan"), 6: 0.5, 8: 0.5, 10: 0.125}
    run = tiny_run(tmp_path, 10, evaluate_every=2, scores=scores).fit()
    assert run.checkpoints.state_dict() == {"best_score": 0.5, "best_step": 6}
    best = load(tmp_path / "best.ckpt")
    assert saved_step(best) == 6
    assert best["callbacks"]["Checkpoints"]["best_step"] == 6
    assert saved_step(load(tmp_path / "last.ckpt")) == 10


def test_a_run_killed_before_the_best_had_its_name_names_it_when_it_goes_on(
    tmp_path: Path, tiny_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {5: 0.25, 10: 0.5}
    with monkeypatch.context() as patch:
        patch.setattr(lightning_checkpoints, "copy_whole", lambda *files: killed())
        with pytest.raises(KilledError):
            tiny_run(tmp_path, evaluate_every=10, scores=scores).fit()
    assert not (tmp_path / "best.ckpt").exists()
    tiny_run(tmp_path, evaluate_every=10, scores=scores, resume=True).fit()
    assert saved_step(load(tmp_path / "best.ckpt")) == 10
    assert saved_step(load(tmp_path / "last.ckpt")) == 12


def test_a_metric_that_nobody_gives_is_named_with_those_there_are(
    tmp_path: Path, tiny_run: Any
) -> None:
    run = tiny_run(tmp_path)
    run.checkpoints.metric = "AP_coco"
    with pytest.raises(ValueError, match=r"evaluate\.metric=AP_coco .* scores: AP50_voc07"):
        run.fit()


def test_checkpoints_hold_tensors_and_plain_types_only(tmp_path: Path, tiny_run: Any) -> None:
    tiny_run(tmp_path, 5).fit()
    loaded = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(loaded["state_dict"]) == {"model.network.weight", "model.network.bias"}
    assert loaded["step"] == loaded["global_step"] == 5


def test_a_full_disk_says_that_the_previous_checkpoint_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    files = AtomicCheckpointIO()
    path = tmp_path / "last.ckpt"
    files.save_checkpoint({"state_dict": {}, "step": 8000}, path)
    real: Callable[..., Any] = builtins.open
    monkeypatch.setattr(
        builtins,
        "open",
        lambda name, mode="r", *rest: real("/dev/full" if "w" in mode else name, mode, *rest),
    )
    message = (
        r"^disk full writing last\.ckpt \(2\.. MB needed, .* left\);"
        r" previous last\.ckpt \(step 8 000\) is intact$"
    )
    with pytest.raises(DiskFullError, match=message):
        files.save_checkpoint({"state_dict": {"w": torch.zeros(2**19)}, "step": 9000}, path)
    assert saved_step(load(path)) == 8000


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half of one"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        load(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": Trap()}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="holds more than tensors"):
        load(tmp_path / "last.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_something_else_that_torch_reads_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="no state_dict"):
        load(tmp_path / "weights.pt")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*absent\.ckpt"):
        load(tmp_path / "absent.ckpt")
