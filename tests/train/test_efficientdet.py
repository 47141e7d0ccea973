"""`train.py` with an EfficientDet: a run again, or stopped and resumed, has the same numbers."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Dict

import pytest
import torch
from torch import Tensor

import train
from tests.small_runs import losses, saved, signal_after, write_recipe

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

WORDS = (
    *("image.size=64", "data.format=generated", "data.count=[6,2]", "data.workers=0"),
    *("data.train=[train]", "data.val=[]", "data.classes=null", "data.labels=order"),
    *("micro_batch_size=2", "gradient_accumulation=1", "pipeline.splits=[]", "device=cpu"),
    *("model.weights=random", "model.head=null", "model.survival=0.8", "optim.warmup_steps=2"),
    *("trainer.max_steps=4", "run.log_every_steps=1", "checkpoint.every_steps=1"),
    "evaluate.every_steps=0",
)
"""coco_d0, as small as it goes: averages, stochastic depth and clipping are on."""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe as a file, in the folder of the runs."""
    monkeypatch.chdir(tmp_path)
    return write_recipe(tmp_path / "small.yaml", "coco_d0", WORDS)


def weights(folder: Path) -> Dict[str, Tensor]:
    found: Dict[str, Tensor] = saved(folder / "last.ckpt")["state_dict"]
    return found


def test_a_run_again_and_a_resumed_run_are_the_first_one(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = small.parent / "runs" / "coco_d0"
    assert train.main([f"recipe={small}"]) == 0
    assert train.main([f"recipe={small}"]) == 0
    with monkeypatch.context() as patch:
        signal_after(2, signal.SIGTERM, patch)
        assert train.main([f"recipe={small}"]) == 143
    assert len(losses(runs / "3")) == 2
    assert train.main(["resume=runs/coco_d0/3"]) == 0
    assert len(losses(runs / "1")) == 4
    first = weights(runs / "1")
    for other in "23":
        assert losses(runs / other) == losses(runs / "1")
        for name, weight in weights(runs / other).items():
            assert torch.equal(weight, first[name]), name


def test_stochastic_depth_is_part_of_such_a_run(small: Path) -> None:
    runs = small.parent / "runs" / "coco_d0"
    for survival in ("0.8", "1.0"):
        words = ["trainer.max_steps=1", f"model.survival={survival}"]
        assert train.main([f"recipe={small}", *words]) == 0
    assert losses(runs / "1") != losses(runs / "2")
