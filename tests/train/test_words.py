"""The command line of `train.py`: what it prints, and the mistakes that people make in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from detectors.experiment.recipe import load_recipe
from tests.small_runs import Train

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


def test_cfg_prints_a_recipe_that_is_the_same(run: Train, tmp_path: Path) -> None:
    words = ("recipe=voc0712_mixed", "optim.lr=0.01")
    result = run(*words, "--cfg")
    assert result.code == 0
    assert run(*words, "--cfg", "job").out == result.out
    (tmp_path / "voc0712_mixed.yaml").write_text(result.out)
    again = load_recipe("./voc0712_mixed.yaml")
    assert again.optim.lr == 0.01
    assert again.model.norm.value == "frozen"  # resolved


def test_the_list_and_the_help_are_answered_without_torch(repository: Path) -> None:
    program = (
        "import sys, train; codes = [train.main(words) for words in ([], ['--recipes'], ['--help'],"
        " ['recipe=x'])]; print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 2] False"
    assert done.stdout.count("voc0712_mixed ") == 2
    assert "usage: python train.py recipe=NAME" in done.stdout


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["recipe=voc0712_mixd"], ["no recipe 'voc0712_mixd'", "did you mean voc0712_mixed?"]),
        (["recpe=voc0712_mixed"], ["unknown key 'recpe'; did you mean recipe=voc0712_mixed?"]),
        (["--recipe", "generated"], ["write recipe=generated"]),
        (["--recipe=generated"], ["write recipe=generated"]),
        (["generated"], ["unknown word 'generated'; write recipe=generated"]),
        (["recipe=generated", "--recipess"], ["did you mean --recipes?"]),
        (["recipe=generated", "recipe=voc_custom"], ["recipe= is given 2 times"]),
        (["seed=1"], ["name a recipe", "recipes: bccd_d0, "]),
        (
            ["recipe=voc0712_mixed", "optim.learning_rate=.1"],
            ["no key 'optim.learning_rate' in voc0712_mixed; did you mean optim.lr (now 0.02)?"],
        ),
        (["recipe=generated", "optim.lr=abc"], ["optim.lr must be a number > 0, got 'abc'"]),
        (["recipe=generated", "seed=1.5"], ["seed must be a whole number", "got 1.5"]),
        (["recipe=generated", "micro_batch_size=0"], ["micro_batch_size must be"]),
        (["recipe=generated", "+new=1"], ["+new"]),
        (["recipe=generated", "evaluate.patience=2", "evaluate.every_steps=0"], ["every_steps"]),
        (["recipe=generated", "weights=best.ckpt"], ["model.weights", "no best.ckpt"]),
        (["recipe=generated", "device_iterations=7"], ["device_iterations"]),
        (["recipe=generated", "optim.name=lamb", "optim.max_grad_norm=1"], ["max_grad_norm"]),
        (["resume=runs/generated/7"], ["runs/generated/7/config.yaml"]),
        (["recipe=voc_custom", "data.root=nowhere"], ["nowhere"]),
        (["SMALL", "evaluate.metric=AP60_voc07"], ["evaluate.metric must be one of"]),
        (
            ["SMALL", "pipeline.splits=[head]", "gradient_accumulation=3"],
            ["pipeline.splits 'head'"],
        ),
        (["SMALL", "augment=albumentations"], ["augment.compose=FILE"]),
        (["SMALL", "resume=runs/generated/7"], ["no runs/generated/7"]),
        (["SMALL", "model.weights=nothing.ckpt"], ["nothing.ckpt"]),
        (["SMALL", "model.weights=imagnet"], ["there is no imagnet; did you mean imagenet?"]),
        (["recipe=generated", "device=gpu"], ["got 'gpu'; did you mean cuda?"]),
        (["recipe=generated", "image.size=[256,"], ["is not YAML", "no blanks, or quotes"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_word_is_explained(
    words: List[str], lines: List[str], run: Train, small: Path, tmp_path: Path
) -> None:
    result = run(*(f"recipe={small}" if word == "SMALL" else word for word in words))
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) <= 6
    for line in lines:
        assert line in result.err
    assert list(tmp_path.iterdir()) == []
