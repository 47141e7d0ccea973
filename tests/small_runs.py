"""Small runs of train.py: their recipe's words, their pictures, and what they leave behind."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import pytest
import torch
from PIL import Image

import train
from detectors.experiment.lightning_guard import LossGuard
from detectors.experiment.recipe import load_recipe, recipe_yaml

TINY = (
    "image.size=64",
    "data.count=[6,2]",
    "data.workers=0",
    "model.anchors.sizes=[16,32]",
    "model.rpn.channels=8",
    "model.rpn.num_samples=16",
    "model.rpn.pre_nms=[32,32]",
    "model.rpn.post_nms=[8,8]",
    "model.box_head.pool_size=4",
    "model.box_head.num_samples=8",
    "micro_batch_size=1",
    "gradient_accumulation=1",
    "pipeline.splits=[]",
    "optim.name=sgd",
    "optim.lr=0.02",
    "optim.schedule=constant",
    "optim.warmup_steps=2",
    "run.log_every_steps=1",
    "checkpoint.every_steps=2",
    "evaluate.every_steps=0",
    "evaluate.resamples=0",
    "device=cpu",
)
"""The recipe `generated`, as small as it goes; a step takes tens of milliseconds."""


class Run(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str


Train = Callable[..., Run]


def run_train(capsys: pytest.CaptureFixture[str], *words: object) -> Run:
    """Run train.py's main with these words where we are; it never shows a traceback."""
    capsys.readouterr()
    code = train.main([str(word) for word in words])
    seen = capsys.readouterr()
    assert "Traceback" not in seen.err
    return Run(code, seen.out, seen.err)


def write_recipe(path: Path, name: str, words: Sequence[str]) -> Path:
    """A recipe with these changes as a file, which is read faster than words; returns its path."""
    path.write_text(recipe_yaml(load_recipe(name, words)), encoding="utf-8")
    return path


def voc_pictures(root: Path, names: Sequence[str], count: int = 2) -> Path:
    """So many pictures of 64 x 48 in VOC's folders, without lists, with an object of each class."""
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{4 + 14 * place}</xmin><ymin>5</ymin>"
        f"<xmax>{16 + 14 * place}</xmax><ymax>40</ymax></bndbox></object>"
        for place, name in enumerate(names)
    )
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (64, 48), (40 * number, 90, 90)).save(root / f"JPEGImages/{number}.jpg")
        (root / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><size><width>64</width>"
            f"<height>48</height><depth>3</depth></size>{boxes}</annotation>"
        )
    return root


def rows(folder: Path) -> List[Dict[str, str]]:
    """`metrics.csv` of a run."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> List[Tuple[str, ...]]:
    """Step, losses and learning rate of each row, every digit."""
    keys = [key for key in rows(folder)[0] if key == "step" or key.startswith(("train/", "optim/"))]
    return [tuple(row[key] for key in keys) for row in rows(folder) if row["train/loss"]]


def saved(path: Path) -> Dict[str, Any]:
    """What a checkpoint holds."""
    content: Dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def signal_after(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a signal in the middle of a step."""
    before = LossGuard.on_train_batch_end

    def signalling(self: LossGuard, trainer: Any, *args: Any) -> None:
        before(self, trainer, *args)
        if trainer.global_step == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(LossGuard, "on_train_batch_end", signalling)
