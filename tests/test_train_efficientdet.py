"""`train.py` with an EfficientDet: a run again, or stopped and resumed, has the same numbers."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import torch
from torch import Tensor

import train
from detectors.experiment.lightning_guard import LossGuard
from detectors.experiment.recipe import load_recipe, recipe_yaml

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
    path = tmp_path / "small.yaml"
    path.write_text(recipe_yaml(load_recipe("coco_d0", WORDS)), encoding="utf-8")
    return path


def losses(folder: Path) -> List[Tuple[str, ...]]:
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    keys = [key for key in table[0] if key == "step" or key.startswith(("train/", "optim/"))]
    return [tuple(row[key] for key in keys) for row in table]


def weights(folder: Path) -> Dict[str, Tensor]:
    content: Dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    found: Dict[str, Tensor] = content["state_dict"]
    return found


def signal_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = LossGuard.on_train_batch_end

    def signalling(self: LossGuard, trainer: Any, *args: Any) -> None:
        before(self, trainer, *args)
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LossGuard, "on_train_batch_end", signalling)


def test_a_run_again_and_a_resumed_run_are_the_first_one(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = small.parent / "runs" / "coco_d0"
    assert train.main([f"recipe={small}"]) == 0
    assert train.main([f"recipe={small}"]) == 0
    with monkeypatch.context() as patch:
        signal_after(2, patch)
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
