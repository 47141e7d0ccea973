"""What a run says before it starts, and the two tasks that only say something."""

from __future__ import annotations

from typing import Sequence

import pytest

from detectors.commands.train import header
from detectors.commands.train.check import estimate, verdict
from detectors.commands.train.throughput import throughput_lines
from detectors.experiment.recipe import Recipe, load_recipe, resolve


def recipe(name: str, *words: str) -> Recipe:
    return resolve(load_recipe(name, words))


@pytest.mark.parametrize(
    ("words", "device", "line"),
    [
        (["device=cpu"], "cpu", "device cpu · fp32 (precision=mixed has a plan for IPU and CUDA"),
        ([], "cuda", "device cuda (device=auto) · mixed: autocast"),
        (["precision=fp32"], "ipu", "device ipu (device=auto) · fp32"),
        ([], "ipu", "device ipu (device=auto) · mixed: fp16 backbone and RPN, fp32 box head"),
    ],
)
def test_the_first_line_is_the_device_and_what_becomes_of_mixed(
    words: Sequence[str], device: str, line: str
) -> None:
    assert header.device_line(recipe("voc0712_mixed", *words), device).startswith(line)


def test_the_schedule_counts_epochs_by_pictures() -> None:
    line = header.schedule_line(recipe("voc0712_mixed"), 16551)
    assert line.startswith("schedule 18000 steps of 16 images (micro-batch 1 x accumulation 16)")
    assert "= 17.4 epochs" in line
    assert line.endswith("4 stages")


def test_the_linear_rule_is_told_and_never_silent() -> None:
    assert header.learning_rate_line(recipe("voc0712_mixed")) == []
    words = ("gradient_accumulation=1", "pipeline.splits=[]", "optim.lr=0.02")
    (line,) = header.learning_rate_line(recipe("voc0712_mixed", *words))
    assert line == (
        "lr 0.02 is for 16 images per step, this run has 1: unchanged; the linear rule's 0.00125"
        " comes with optim.scale_lr=true"
    )
    scaled = recipe("voc0712_mixed", *words, "optim.scale_lr=true")
    (line,) = header.learning_rate_line(scaled)
    assert line.endswith("scaled to 0.00125 (optim.scale_lr=true)")
    assert header.scaled_lr(scaled) == pytest.approx(0.00125)


def test_deviations_from_the_published_run_are_named() -> None:
    (line,) = header.deviations(recipe("voc0712_mixed"))
    assert line.startswith("differs from Graphcore's run: ")
    assert "pictures by letterbox, not squash" in line
    (line,) = header.deviations(recipe("voc0712_detectron2"))
    assert "canvas" in line
    assert header.deviations(recipe("generated")) == []


def test_a_batch_that_is_learned_can_learn() -> None:
    assert verdict([2.0] + [1.0] * 6 + [0.3, 0.2, 0.1]) == (
        True,
        "overfit one batch: loss 2.00 -> 0.20 in 10 steps: can learn",
    )
    learns, line = verdict([2.0] * 12)
    assert not learns
    assert line.endswith("does not learn: try another optim.lr")
    assert verdict([2.0, 2.0])[0]  # too early to tell is no failure


def test_the_estimate_is_pictures_by_their_time() -> None:
    words = ("trainer.max_steps=18000", "device=cpu")
    assert estimate(recipe("voc0712_mixed", *words), 0.5).startswith(
        "estimate: 1 days 16:00:00 for 18000 steps at 2 img/s"
    )


def test_throughput_leaves_the_first_calls_out() -> None:
    lines = throughput_lines([9.0, 5.0, 1.0, 1.0, 2.0], images=8, device_iterations=2)
    assert lines[0].split() == ["samples/s", "p50", "p90", "p99"]
    assert lines[1].split() == ["ms", "per", "step", "6", "500.0", "900.0", "990.0"]
    assert lines[2] == "3 calls timed, after 9.0 s of the first"
