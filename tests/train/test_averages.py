"""`train.py optim.ema=...`: averages are what is scored, saved to be used, and gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Dict

import pytest
import torch

import detectors
import infer
from detectors.commands.train import header
from detectors.commands.train.model import build_detector, configuration
from detectors.experiment.recipe import Recipe, load_recipe, resolve
from detectors.weights import load_checkpoint
from detectors.weights.source import AVERAGED
from tests.small_runs import TINY, Train, saved, signal_after, write_recipe

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

WORDS = (*TINY, "optim.ema=0.9", "evaluate.every_steps=3", "trainer.max_steps=6")
"""The recipe `generated`, as small as it goes, with averages."""

Files = Dict[str, Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe with averages as a file."""
    return write_recipe(tmp_path_factory.mktemp("recipes") / "small.yaml", "generated", WORDS)


def assert_equal(found: Files, expected: Files) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_averages_are_scored_and_used_and_training_does_not_see_them(
    tiny: Train, run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tiny().code == 0
    folder = tmp_path / "runs" / "generated" / "1"
    last, best = saved(folder / "last.ckpt"), saved(folder / "best.ckpt")
    assert last["ema_step"] == last["step"] == 6
    name = "model.network.backbone.conv1.weight"
    assert not torch.equal(best["state_dict"][name], best[AVERAGED][name])

    assert tiny("optim.ema=0", "evaluate.every_steps=0").code == 0
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
    tiny: Train, run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny("optim.ema_every=3").code == 0
    with monkeypatch.context() as patch:
        signal_after(4, signal.SIGTERM, patch)
        assert tiny("optim.ema_every=3").code == 143
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
        return resolve(load_recipe("generated", [*WORDS, *words]))

    model = build_detector(configuration(recipe(), 3))
    with_averages = header.checkpoint_bytes(model, recipe())
    averages = sum(4 * parameter.numel() for parameter in model.parameters())
    averages += sum(4 * one.numel() for one in model.buffers() if one.is_floating_point())
    without = header.checkpoint_bytes(model, recipe("optim.ema=0"))
    assert with_averages - without == pytest.approx(averages, rel=1e-3)


@pytest.mark.parametrize("word", ["optim.ema=1", "optim.ema=-0.1", "optim.ema_every=0"])
def test_other_values_are_refused(tiny: Train, word: str) -> None:
    result = tiny(word)
    assert result.code == 2
    assert f"{word.partition('=')[0]} must be" in result.err
