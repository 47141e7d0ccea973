"""`--benchmark`: where the time goes, under the labels of Graphcore's EfficientDet example.

There "per-batch latency" was printed for what is the time of a call divided by its images. Here
per-batch is a call, per-image is a call divided by its images, and both are printed.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List

import torch

from detectors.commands.infer.arguments import Arguments
from detectors.commands.infer.batches import PrepareOne, batches
from detectors.commands.infer.detection import detect_batch
from detectors.commands.infer.results import run_folder
from detectors.commands.infer.runner import Runner
from detectors.experiment.timing import PARTS, Timings, percentile

__all__ = ["figures", "render", "run_benchmark"]

FILE = "benchmark.json"
REPEATS = 20  # as the seed's: how often the images are gone through unless --repeat says it


def figures(timings: Timings, images_per_call: int) -> Dict[str, Any]:
    """All numbers of a benchmark; seconds, images per second.

    Raises:
        ValueError: nothing was measured after the first call, which warms up.
    """
    if not timings.per_batch:
        raise ValueError(
            "--benchmark drops the first call, those of --threads auto and a batch that is not"
            " full, and nothing was left: raise --repeat or lower --batch"
        )
    calls = timings.per_batch
    per_image = {part: spread(timings.per_image[part]) for part in PARTS if timings.per_image[part]}
    return {
        "calls": len(calls),
        "images_per_call": images_per_call,
        "throughput": images_per_call * len(calls) / sum(calls),
        "end_to_end": 1 / sum(part["mean"] for part in per_image.values()),
        "per_batch": spread(calls),
        "per_image": per_image,
    }


def spread(seconds: List[float]) -> Dict[str, float]:
    """Mean, percentiles and extremes."""
    return {
        "mean": sum(seconds) / len(seconds),
        "p50": percentile(seconds, 50),
        "p90": percentile(seconds, 90),
        "p99": percentile(seconds, 99),
        "min": min(seconds),
        "max": max(seconds),
    }


def render(values: Dict[str, Any], timings: Timings) -> str:
    """The report; `throughput:` and `Per-batch latency avg:` can be read by a program."""
    batch = values["per_batch"]
    images = values["images_per_call"]
    times = ", ".join(
        f"{key}: {1000 * batch[key]:.2f}" for key in ("p50", "p90", "p99", "min", "max")
    )
    return "\n".join(
        [
            f"throughput: {values['throughput']:.2f} samples/sec, of the model alone",
            f"Per-batch latency avg: {1000 * batch['mean']:.2f} ms, {times}"
            f" ({values['calls']} calls of {images} images)",
            f"Per-image latency avg: {1000 * batch['mean'] / images:.2f} ms, a call by its images",
            f"end to end: {values['end_to_end']:.2f} samples/sec, all four parts in turn",
            timings.render(),
            "Benchmark complete",
        ]
    )


def run_benchmark(args: Arguments, num_images: int, prepare_one: PrepareOne, runner: Runner) -> int:
    """Measure, print and write `benchmark.json`; returns the exit code.

    Images are read, letterboxed, run and scaled back one after the other, so that no part disturbs
    another. The first call, which compiles and warms up, is dropped, as are those that try numbers
    of threads, and a last batch that is not full.

    Raises:
        ValueError: too few images for a second call, or none that can be read.
        RuntimeError: --worst-case, but NMS did not run all of its rounds.
    """
    indices = list(range(num_images)) * (args.repeat or REPEATS)
    timings = Timings()
    rounds: List[int] = []
    warm = False
    for batch in batches(indices, prepare_one, runner.images_per_call, read_ahead=False):
        if len(batch.items) < runner.images_per_call:
            continue  # a call that is filled up would count as faster than it is
        rounds += [len(image.scores) for image in detect_batch(runner, batch, timings)]
        if not warm:
            timings.forget()
            warm = runner.settled
    values = {
        **runner.detector.header(),
        "device": runner.device,
        "nms_where": args.nms,
        "worst_case": args.worst_case,
        "threads": torch.get_num_threads(),
        **figures(timings, runner.images_per_call),
    }
    if args.worst_case and min(rounds) < args.max:
        raise RuntimeError(
            f"--worst-case: NMS kept {min(rounds)} boxes of an image instead of --max {args.max}:"
            " the model has fewer candidates; lower --max or raise --top-k"
        )
    if runner.note:
        print(runner.note)
    folder = run_folder(args.out, runner.detector.name, writable=args.overwrite)
    (folder / FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    if args.worst_case:
        print(f"worst case: NMS ran {args.max} rounds in every image")
    print(render(values, timings))
    print(f"{folder}: {FILE}")
    return 0
