"""How `infer.py` runs: benchmark, configs, executables, the cache of weights."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, List

import pytest
import torch
from torch import Tensor

from detectors.commands.infer.runner import Runner
from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.inference import build_efficientdet
from detectors.postprocess import PostprocessConfig
from detectors.weights import known, save
from tests.infer.small_runs import Infer, images_of


def test_the_benchmark_has_the_labels_that_programs_read(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = ("--benchmark", "--repeat", 2, "--batch", 2, "--out", "out")
    result = run(checkpoint, photos, *words)
    assert result.code == 0
    assert re.search(r"throughput: ([\d.]+) samples/sec,", result.out)
    batch = re.search(r"Per-batch latency avg: ([\d.]+) ms,", result.out)
    image = re.search(r"Per-image latency avg: ([\d.]+) ms,", result.out)
    assert batch is not None
    assert image is not None
    assert float(batch[1]) == pytest.approx(2 * float(image[1]), abs=0.02)
    assert "Benchmark complete" in result.out
    values = json.loads(Path("out/benchmark.json").read_text())
    assert values["calls"] == 4  # ten images are five calls, and the first warms up
    assert set(values["per_image"]) == {"read", "preprocess", "model", "postprocess"}
    assert set(values["per_image"]["model"]) == {"mean", "p50", "p90", "p99", "min", "max"}
    assert result.last == "out: benchmark.json"


def test_a_benchmark_counts_full_calls_after_the_threads_are_found(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    words = ("--benchmark", "--repeat", 5, "--batch", 2, "--threads", "auto", "--out", "out")
    result = run(checkpoint, photos, *words)
    assert result.code == 0
    assert re.search(r"^\([12] threads?, best of 2/1\)$", result.out, re.MULTILINE)
    # 25 images are 12 full calls; the first warms up, and 2 with each number of threads are trials
    values = json.loads(Path("out/benchmark.json").read_text())
    assert (values["calls"], values["threads"]) == (7, 2)


def test_a_benchmark_with_a_config_has_more_than_the_call_that_warms_up(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    # throughput would take 100 batches of 4 in one call, and there are 10 images
    words = ("--benchmark", "--repeat", 2, "--config", "throughput", "--out", "out")
    assert run(checkpoint, photos, *words).code == 0
    assert json.loads(Path("out/benchmark.json").read_text())["calls"] == 1


def test_the_worst_case_runs_every_round_of_nms(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: List[int] = []
    rows = Runner.rows

    def counted(self: Runner, outputs: Any) -> Any:
        found = rows(self, outputs)
        counts.extend(len(row.scores) for row in found)
        return found

    monkeypatch.setattr(Runner, "rows", counted)
    words = ("--benchmark", "--repeat", 1, "--max", 77, "--limit", 2, "--out", "out")
    result = run(checkpoint, photos, *words, "--worst-case")
    assert result.code == 0
    assert counts == [77, 77]
    assert "NMS ran 77 rounds in every image" in result.out


def test_an_executable_runs_real_images_and_refuses_other_settings(
    run: Infer, checkpoint: Path, photos: Path
) -> None:
    words = (checkpoint, "--score", ".3", "--batch", 2)
    result = run(*words, "--compile-only", "tiny.poptorch")
    assert result.code == 0
    assert "--executable tiny.poptorch" in result.last
    show = (photos, "--no-images", "--quiet")
    assert run(*words, *show, "--executable", "tiny.poptorch", "--out", "ahead").code == 0
    assert run(*words, *show, "--out", "now").code == 0
    assert images_of(Path("ahead")) == images_of(Path("now"))
    assert any(image.labels for image in images_of(Path("now")))

    other = run(checkpoint, *show, "--batch", 3, "--executable", "tiny.poptorch")
    assert other.code == 2
    assert "compiled with micro_batch_size 2, this run has 3" in other.err
    tiles = ("--config", "low-latency", "--batch", 2, "--executable", "tiny.poptorch")
    other = run(checkpoint, *show, "--score", ".3", *tiles)
    assert other.code == 2
    assert "compiled with io_tiles 0, this run has 96" in other.err
    Path("tiny.poptorch").write_text("damaged")
    damaged = run(*words, *show, "--executable", "tiny.poptorch")
    assert damaged.code == 1
    assert "Invalid file tiny.poptorch" in damaged.err
    assert "a fault of the program" not in damaged.err
    absent = run(*words, *show, "--executable", "none.poptorch")
    assert absent.code == 2
    assert "--compile-only none.poptorch makes it" in absent.err


def test_a_config_sets_the_batch_and_words_override_it(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: List[int] = []
    call = Runner.__call__

    def noted(self: Runner, images: Tensor) -> Any:
        sizes.append(self.images_per_call)
        return call(self, images)

    monkeypatch.setattr(Runner, "__call__", noted)
    words = (checkpoint, photos, "--no-images", "--quiet", "--config", "throughput")
    # D0's recipe has batches of 4 and 100 of them in a call: 2 calls' worth of images are enough
    # here.
    assert run(*words).code == 0
    assert run(*words, "--set", "micro_batch_size=2", "--set", "device_iterations=1").code == 0
    assert run(*words, "--set", "micro_batch_size=2", "--batch", 5).code == 0
    assert sizes == [8, 2, 2, 2, 5]


def test_a_second_run_takes_weights_from_the_cache(
    run: Infer,
    photos: Path,
    small_d0: EfficientDetConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = save(build_efficientdet(small_d0, PostprocessConfig()), tmp_path / "new.pth")
    sha256 = hashlib.sha256(saved.read_bytes()).hexdigest()
    published = saved.rename(tmp_path / f"tiny-{sha256[:8]}.pth")
    entry = known.KnownCheckpoint("d0", published.as_uri())
    monkeypatch.setitem(known.KNOWN, "tf_efficientdet_d0", entry)
    words = ("d0", photos / "1.jpg", "--no-images", "--quiet")
    assert run(*words).code == 0
    assert run(*words, "--weights", "tf_efficientdet_d0").code == 0  # the same, by its own name
    published.unlink()
    touched = "urllib.request.urlopen"
    monkeypatch.setattr(touched, lambda *_, **__: pytest.fail("the network was touched"))
    assert run(*words).code == 0
