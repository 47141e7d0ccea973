"""The benchmark of trainings: contenders share batches and judge, and stopped ones go on."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, List

import pytest
import torch
from PIL import Image

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


@pytest.fixture
def benchmark_module(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`benchmarks/training.py`, to call."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return import_module("training")


def coco_of_two(root: Path) -> Path:
    """A picture with boxes of the categories 3 and 7, as train2017 and as val2017."""
    boxes = [(1, 3, [8, 8, 30, 30]), (2, 7, [20, 12, 40, 40])]
    content = {
        "images": [{"id": 1, "file_name": "one.jpg", "width": 64, "height": 64}],
        "categories": [{"id": 3, "name": "nut"}, {"id": 7, "name": "bolt"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, c, b in boxes
        ],
    }
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        Image.new("RGB", (64, 64), (90, 30, 30)).save(root / split / "one.jpg")
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content))
    return root


def options_of(root: Path, *words: str) -> argparse.Namespace:
    """A command line of one step, in process."""
    small = ["data.workers=0", "image.size=64", "micro_batch_size=2", "device=cpu"]
    data = ["data.format=coco", f"data.root={root}", "data.train=[train2017]"]
    return argparse.Namespace(
        words=[*small, *data, "data.val=[val2017]", "evaluate.resamples=0", *words],
        seeds=[0],
        steps=1,
        out=root / "out",
        ours=None,
        save_every=1,
    )


def test_classes_may_lie_at_their_ids(benchmark_module: Any, tmp_path: Path) -> None:
    # contenders had as many outputs as classes, and labels were beyond them
    options = options_of(coco_of_two(tmp_path), "data.labels=ids", "optim.warmup_steps=0")
    benchmark_module.train_one("biases", 0, options)
    about = json.loads((tmp_path / "out" / "biases-0" / "scores.json").read_text())
    assert about["nms"] == "hard"
    found = json.loads((tmp_path / "out" / "biases-0" / "detections.json").read_text())
    assert {one["category_id"] for one in found} <= {3, 7}


def test_runs_scored_with_another_nms_are_refused(benchmark_module: Any, tmp_path: Path) -> None:
    options = options_of(coco_of_two(tmp_path))
    recipe = benchmark_module.recipe_of(options, 0)
    judge = benchmark_module.data_of(recipe)[1]
    about = {
        "settings": benchmark_module.settings_of(recipe),
        "data_fingerprint": judge.fingerprint(),
        "nms": "soft",
    }
    (tmp_path / "scores.json").write_text(json.dumps(about))
    folders = {"ours": tmp_path}
    with pytest.raises(ValueError, match="was scored with soft NMS, the others with hard"):
        benchmark_module.require_same_settings(recipe, judge, folders, 0, options)
    (tmp_path / "scores.json").write_text(json.dumps({**about, "nms": "hard"}))
    benchmark_module.require_same_settings(recipe, judge, folders, 0, options)


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


def test_what_is_timed_learns_what_the_plain_loop_learns(
    benchmark_module: Any,
) -> None:
    loop_of = import_module("training_steps").loop_of
    from detectors.commands.train.datasets import open_datasets

    options = argparse.Namespace(words=[*TINY, "optim.name=sgd", "optim.ema=0.5"], steps=None)
    recipe = benchmark_module.recipe_of(options, 0)
    datasets = open_datasets(recipe)
    found = []
    for name in benchmark_module.TIMED[:3]:
        torch.manual_seed(0)
        loop = loop_of(name, recipe, datasets.class_names, "cpu")
        batches = loop.batches(datasets)
        losses = [float(loop.update(next(batches)).mean()) for _ in range(2)]
        found.append((losses, loop.averages))
    (losses, averages), *others = found
    for other_losses, other_averages in others:
        assert other_losses == pytest.approx(losses, rel=1e-4)
        for name, value in averages.items():
            torch.testing.assert_close(other_averages[name], value, rtol=1e-3, atol=1e-5)
