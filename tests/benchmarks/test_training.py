"""The benchmark of trainings: contenders share batches and judge, and stopped ones go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, List

import pytest
import torch

TINY = [
    "data.format=generated",
    "data.count=[8,4]",
    "data.workers=0",
    "image.size=64",
    "micro_batch_size=2",
    "gradient_accumulation=2",
    "optim.warmup_steps=1",
    "evaluate.resamples=20",
    "device=cpu",
]


def benchmark(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/training.py", *words],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_contenders_are_trained_scored_and_compared(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("effdet", reason="the peer")
    words = [*TINY, "--steps", "2", "--out", str(tmp_path / "out"), "--json", "-"]
    done = benchmark(repository, "accuracy", *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (seed,) = report["seeds"]
    assert (report["steps"], report["images_per_step"], seed["images"]) == (2, 4, 4)
    scores = seed["AP50_voc07"]
    assert set(scores) == {"ours", "effdet", "biases"}
    difference = seed["ours_minus_effdet"][0]
    assert difference == pytest.approx(scores["ours"][0] - scores["effdet"][0])
    for name in scores:
        assert (tmp_path / "out" / f"{name}-0" / "detections.json").is_file()
        assert f"{name} seed 0 step 2/2 loss" in done.stderr

    other = benchmark(repository, "compare", *words, "optim.lr=0.5")
    assert other.returncode == 2
    assert "was trained otherwise: optim.lr=0.002 (0.5)" in other.stderr


def test_what_effdet_cannot_share_is_refused(repository: Path) -> None:
    done = benchmark(repository, "accuracy", *TINY, "model.survival=0.8")
    assert done.returncode == 2
    assert "model.survival=0.8: contenders that share it need model.survival=1.0" in done.stderr


@pytest.fixture
def loop(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the loop, and what it trains."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return import_module("training_loop"), import_module("training_contenders")


def trained(modules: Any, name: str, path: Path, steps: List[int]) -> Any:
    """A contender after some steps; a new loop goes on at each of the numbers."""
    from detectors.commands.train.datasets import open_datasets
    from detectors.experiment.recipe import load_recipe, resolve

    words = [*TINY, "trainer.max_steps=2", "optim.ema=0.9", "evaluate.every_steps=0"]
    recipe = resolve(load_recipe("bccd_d0", words))
    datasets = open_datasets(recipe)
    module, contenders = modules
    for until in steps:
        contender = contenders.CONTENDERS[name](recipe, datasets.class_names)
        loop = module.Loop(contender, recipe, "cpu")
        if path.exists():
            loop.load(path)
        for micro_batches in loop.batches(datasets):
            loop.update(micro_batches)
            if loop.step == until:
                break
        loop.save(path)
    return loop


def test_a_stopped_training_goes_on_to_the_same_weights(loop: Any, tmp_path: Path) -> None:
    straight = trained(loop, "ours", tmp_path / "one", [2])
    stopped = trained(loop, "ours", tmp_path / "two", [1, 2])
    assert stopped.step == 2
    for name, value in straight.model.state_dict().items():
        torch.testing.assert_close(stopped.model.state_dict()[name], value, msg=name)
    for name, value in straight.averages.items():
        torch.testing.assert_close(stopped.averages[name], value, msg=name)


def test_a_checkpoint_of_other_settings_is_refused(loop: Any, tmp_path: Path) -> None:
    done = trained(loop, "biases", tmp_path / "one", [1])
    done.recipe.optim.lr = 1.0
    with pytest.raises(ValueError, match="is of other settings"):
        done.load(tmp_path / "one")


def test_biases_are_all_that_the_floor_learns(loop: Any, tmp_path: Path) -> None:
    done = trained(loop, "biases", tmp_path / "one", [1])
    names = {name for name, one in done.model.named_parameters() if one.requires_grad}
    assert names == {f"network.{head}_head.predict.pointwise.bias" for head in ("class", "box")}
    assert len(done.trained) == 2
