"""Detectors whose stages run on ranks; what is compared stands in `programs/`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest
import torch

from poplar_ops.runtime import IS_HOST

TorchRun = Callable[..., "subprocess.CompletedProcess[str]"]

PROGRAMS = Path(__file__).parent / "programs"
PIPELINES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 14)
pytestmark = [
    pytest.mark.skipif(not IS_HOST, reason="about stages on a host"),
    pytest.mark.skipif(not PIPELINES, reason="needs torch.distributed.pipelining as in torch 2.14"),
    pytest.mark.slow,
]


def test_recipes_on_four_ranks_learn_what_one_process_learns(torchrun: TorchRun) -> None:
    result = torchrun(4, PROGRAMS / "recipes_on_ranks.py", seconds=900)
    for case in (
        *("generated", "generated in replicas", "voc0712_mixed"),
        *("coco_d0", "coco_d0 in replicas"),
    ):
        assert f"{case} holds" in result.stdout, result.stdout
    assert result.returncode == 0


def test_efficientdet_on_two_ranks_finds_what_one_process_finds(torchrun: TorchRun) -> None:
    result = torchrun(2, PROGRAMS / "efficientdet_on_ranks.py", seconds=300)
    assert result.stdout.count("all claims hold") == 2, result.stdout
