"""`train.py optim.ema=...`: averages are what is scored, saved to be used, and gone on with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

import pytest
import torch

import detectors
import infer
import train
from detectors.commands.train import header
from detectors.commands.train.model import build_detector, configuration
from detectors.experiment.lightning_guard import LossGuard
from detectors.experiment.recipe import Recipe, load_recipe, recipe_yaml, resolve
from detectors.weights import load_checkpoint
from detectors.weights.source import AVERAGED

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

TINY = (
    "image.size=64",
    "data.count=[6,2]",
    "data.workers=0",
    "model.anchors.sizes=[16,32]",
    "model.rpn.channels=8",
    "model.rpn.num_samples=16",
    "model.rpn.pre_nms=[32,32]",
    "model.rpn.post_nms=[8,8]",
    "model.box_head.num_samples=8",
    "micro_batch_size=1",
    "gradient_accumulation=1",
    "pipeline.splits=[]",
    "optim.name=sgd",
    "optim.lr=0.02",
    "optim.schedule=constant",
    "optim.warmup_steps=2",
    "optim.ema=0.9",
    "run.log_every_steps=1",
    "evaluate.every_steps=3",
    "evaluate.resamples=0",
    "trainer.max_steps=6",
    "device=cpu",
)
"""The recipe `generated`, as small as it goes, with averages."""

Files = Dict[str, Any]


class Run(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str


Train = Callable[..., Run]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe as a file."""
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(recipe_yaml(load_recipe("generated", TINY)), encoding="utf-8")
    return path


@pytest.fixture
def run(
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Train:
    """Run train.py's main in an empty folder with these words, {} being the recipe's file."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Run:
        capsys.readouterr()
        code = train.main([word.format(small) for word in words])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return Run(code, seen.out, seen.err)

    return call


def saved(path: Path) -> Files:
    content: Files = torch.load(path, map_location="cpu", weights_only=True)
    return content


def assert_equal(found: Files, expected: Files) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_averages_are_scored_and_used_and_training_does_not_see_them(
    run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("recipe={}").code == 0
    folder = tmp_path / "runs" / "generated" / "1"
    last, best = saved(folder / "last.ckpt"), saved(folder / "best.ckpt")
    assert last["ema_step"] == last["step"] == 6
    name = "model.network.backbone.conv1.weight"
    assert not torch.equal(best["state_dict"][name], best[AVERAGED][name])

    assert run("recipe={}", "optim.ema=0", "evaluate.every_steps=0").code == 0
    plain = saved(tmp_path / "runs" / "generated" / "2" / "last.ckpt")
    assert AVERAGED not in plain
    assert_equal(last["state_dict"], plain["state_dict"])

    evaluated = run("task=evaluate", f"weights={folder}")
    assert evaluated.code == 0, evaluated.err
    assert "best.ckpt (detectors, moving average), sha256" in evaluated.out
    ours, theirs = (
        json.loads((path / "detections.json").read_text())
        for path in (folder, tmp_path / "runs" / "evaluate" / "generated" / "1")
    )
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)

    model, report = load_checkpoint(folder)
    assert report.averaged == "moving average (EMA), from 'state_dict_ema'"
    assert "state_dict" in report.skipped
    prefix = "model.network."
    network = {prefix + name: value for name, value in model.network.state_dict().items()}
    assert_equal(network, best[AVERAGED])
    raw, report = load_checkpoint(folder, ema=False)
    assert report.averaged == "'state_dict'"
    network = {prefix + name: value for name, value in raw.network.state_dict().items()}
    assert_equal(network, best["state_dict"])
    network = detectors.load(folder, ema=False).network.state_dict()
    assert torch.equal(network["backbone.conv1.weight"], best["state_dict"][name])

    words = [str(folder), "--generated", "1", "--out", "out"]
    assert infer.main(words) == 0
    assert "best.ckpt (detectors, moving average), sha256" in capsys.readouterr().out


def test_a_stopped_run_goes_on_with_its_averages_and_with_no_others(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("recipe={}", "optim.ema_every=3").code == 0
    before = LossGuard.on_train_batch_end

    def stopping(self: LossGuard, trainer: Any, *args: Any) -> None:
        before(self, trainer, *args)
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(LossGuard, "on_train_batch_end", stopping)
        assert run("recipe={}", "optim.ema_every=3").code == 143
    whole, parts = (tmp_path / "runs" / "generated" / name for name in "12")
    stopped = saved(parts / "last.ckpt")
    assert (stopped["step"], stopped["ema_step"]) == (4, 3)

    for word in ("optim.ema=0.99", "optim.ema=0", "optim.ema_every=1"):
        refused = run("resume=runs/generated/2", word, "resume_changes=allow")
        assert refused.code == 2
        assert f"  {word.partition('=')[0]}: " in refused.err

    going_on = run("resume=runs/generated/2")
    assert going_on.code == 0, going_on.err
    for name in ("last.ckpt", "best.ckpt"):
        found, expected = saved(parts / name), saved(whole / name)
        assert_equal(found["state_dict"], expected["state_dict"])
        assert_equal(found[AVERAGED], expected[AVERAGED])
    assert (parts / "detections.json").read_text() == (whole / "detections.json").read_text()

    for name in ("scores.json", "detections.json"):  # killed in its last evaluation
        (parts / name).unlink()
    assert run("resume=runs/generated/2").code == 0
    assert (parts / "detections.json").read_text() == (whole / "detections.json").read_text()


def test_space_for_the_averages_is_counted() -> None:
    def recipe(*words: str) -> Recipe:
        return resolve(load_recipe("generated", [*TINY, *words]))

    model = build_detector(configuration(recipe(), 3))
    with_averages = header.checkpoint_bytes(model, recipe())
    averages = sum(4 * parameter.numel() for parameter in model.parameters())
    averages += sum(4 * one.numel() for one in model.buffers() if one.is_floating_point())
    without = header.checkpoint_bytes(model, recipe("optim.ema=0"))
    assert with_averages - without == pytest.approx(averages, rel=1e-3)


@pytest.mark.parametrize("word", ["optim.ema=1", "optim.ema=-0.1", "optim.ema_every=0"])
def test_other_values_are_refused(run: Train, word: str) -> None:
    result = run("recipe={}", word)
    assert result.code == 2
    assert f"{word.partition('=')[0]} must be" in result.err
