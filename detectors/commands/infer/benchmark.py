"""`--benchmark`: where the time goes, under the labels of Graphcore's EfficientDet example.

There "per-batch latency" was printed for what is the time of a call divided by its images. Here
per-batch is a call, per-image is a call divided by its images, and both are printed.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence

import torch

from detectors.commands.infer.arguments import Arguments
from detectors.commands.infer.batches import PrepareOne, batches
from detectors.commands.infer.detection import detect_batch
from detectors.commands.infer.results import run_folder
from detectors.commands.infer.runner import Runner
from detectors.experiment.console import table
from detectors.experiment.processes import Processes
from detectors.experiment.timing import PARTS, Timings, percentile

__all__ = ["figures", "joined", "render", "run_benchmark"]

FILE = "benchmark.json"
COLUMNS = ("mean", "p50", "p90", "p99")
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


def joined(parts: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """The numbers of several processes that ran at the same time: throughput is the sum, a time is
    that of the slowest; `min` alone is that of the fastest.

    Args:
        parts: of each process, as `figures` has them; what else they say is the first's.
    """
    if len(parts) == 1:
        return dict(parts[0])
    summed = {
        key: sum(part[key] for part in parts) for key in ("calls", "throughput", "end_to_end")
    }
    return {
        **parts[0],
        "instances": len(parts),
        **summed,
        "throughput_of_each": [part["throughput"] for part in parts],
        "per_batch": slowest([part["per_batch"] for part in parts]),
        "per_image": {
            name: slowest([part["per_image"][name] for part in parts])
            for name in parts[0]["per_image"]
        },
    }


def slowest(spreads: Sequence[Dict[str, float]]) -> Dict[str, float]:
    """The longest of each time."""
    return {
        key: (min if key == "min" else max)(times[key] for times in spreads) for key in spreads[0]
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


def render(values: Dict[str, Any]) -> str:
    """The report; `throughput:` and `Per-batch latency avg:` can be read by a program."""
    instances = values.get("instances", 1)
    batch = values["per_batch"]
    images = values["images_per_call"]
    times = ", ".join(
        f"{key}: {1000 * batch[key]:.2f}" for key in ("p50", "p90", "p99", "min", "max")
    )
    rows = [
        [part, *(f"{1000 * times[key]:.2f}" for key in COLUMNS)]
        for part, times in values["per_image"].items()
    ]
    together = f"{instances} instances: throughput is summed, times are the slowest one's"
    return "\n".join(
        [
            *([together] if instances > 1 else []),
            f"throughput: {values['throughput']:.2f} samples/sec, of the model alone",
            f"Per-batch latency avg: {1000 * batch['mean']:.2f} ms, {times}"
            f" ({values['calls']} calls of {images} images)",
            f"Per-image latency avg: {1000 * batch['mean'] / images:.2f} ms, a call by its images",
            f"end to end: {values['end_to_end']:.2f} samples/sec, all four parts in turn",
            table(["ms per image", *COLUMNS], rows),
            "Benchmark complete",
        ]
    )


def run_benchmark(
    args: Arguments,
    num_images: int,
    prepare_one: PrepareOne,
    runner: Runner,
    processes: Processes,
) -> int:
    """Measure, print and write `benchmark.json`; returns the exit code.

    Each of several processes goes through all of the images; their clocks start together.

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
            if warm:
                processes.agree(None, len)  # wait until everybody is
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
    values = processes.agree(values, joined)
    if runner.note:
        print(runner.note)
    name, writable = runner.detector.name, args.overwrite
    folder = processes.from_first(lambda: run_folder(args.out, name, writable=writable))
    if processes.first:
        (folder / FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    if args.worst_case:
        print(f"worst case: NMS ran {args.max} rounds in every image")
    print(render(values))
    print(f"{folder}: {FILE}")
    return 0
