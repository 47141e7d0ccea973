"""EfficientDet beside other detectors, end to end: uint8 images in memory to detections.

    python benchmarks/inference.py efficientdet-d0 [--batch N] [--peers effdet,ssdlite] [--json -]

Each contender is a process of its own, with its own allocator and thread pool; they take turns, one
call each, so that a busy moment of the machine meets all. Ours is what `infer.py` runs on a CPU:
the eager host executor, batch norms folded. Threads sleep while they wait, for all contenders:
spinning ones measure who else is there. effdet is its `DetBenchPredict` as it comes, with the
normalisation in front. Both have the same random weights, scaled so that scores and boxes vary, and
the same settings; that they find the same is checked before anything is timed. Ratios are of
medians: over 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List

import torch
from contenders import started
from torch import Tensor

OURS = "ours"
TOP = 100
SAME_SCORE = 1e-4
AGREE = 0.95  # share of our detections that effdet must have too

Run = Callable[[Tensor], Tensor]
"""(B, 3, H, W) uint8 -> (D,) scores of the first image, descending."""


def pictures(model: str, count: int) -> Tensor:
    """(count, 3, H, W) uint8 of the model's input size: coloured shapes on noise."""
    from data.generated import GeneratedImages
    from detectors.models.efficientdet.config import CONFIGS

    images = GeneratedImages(count, CONFIGS[model].image_size)
    return torch.stack([images[index].image for index in range(count)]).contiguous()


def lively_weights(model: str, path: Path) -> None:
    """Write a checkpoint in effdet's layout under which class logits and boxes vary as a trained
    model's do.
    """
    from detectors import efficientdet
    from detectors.models.efficientdet.random_weights import spread_outputs
    from detectors.weights import save

    torch.manual_seed(0)
    detector = spread_outputs(efficientdet(model), logits_std=1.5, deltas_std=0.5)
    save(detector, path, layout="effdet")


def ours(model: str, weights: Path, batch: int) -> Run:
    """Our model in the host executor, under effdet's settings of post-processing."""
    from detectors import efficientdet
    from detectors.folding import fold_batch_norm
    from detectors.postprocess import PostprocessConfig
    from detectors.weights import load_weights
    from poplar_ops.runtime import poptorch

    detector = efficientdet(model)
    load_weights(detector, weights)
    settings = PostprocessConfig(multiclass=True, score_threshold=0.0, clip_before_nms=True)
    detector.configure(postprocess=settings)
    folded = fold_batch_norm(detector).to(memory_format=torch.channels_last)
    executor = poptorch.inferenceModel(folded, poptorch.Options())

    def run(images: Tensor) -> Tensor:
        _, scores, _, _ = executor(images)
        found: Tensor = scores[0]
        return found

    return run


def effdet(model: str, weights: Path, batch: int) -> Run:
    """effdet's predictor as it comes."""
    import effdet as package

    name = "tf_" + model.replace("-", "_")
    options = {"bench_task": "predict", "pretrained": False, "pretrained_backbone": False}
    bench = package.create_model(name, checkpoint_path=str(weights), **options).eval()
    mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)

    def run(images: Tensor) -> Tensor:
        found: Tensor = bench(images.float().sub_(mean).div_(std))  # (B, 100, 6)
        return found[0, :, 4]

    return run


def torchvision_model(builder: str) -> Callable[[str, Path, int], Run]:
    """One of torchvision's detectors, random weights, images in 0..1."""

    def build(model: str, weights: Path, batch: int) -> Run:
        from torchvision.models import detection

        network = getattr(detection, builder)(weights=None, weights_backbone=None).eval()

        def run(images: Tensor) -> Tensor:
            found: List[Dict[str, Tensor]] = network(list(images.float().div_(255)))
            return found[0]["scores"]

        return run

    return build


CONTENDERS: Dict[str, Callable[[str, Path, int], Run]] = {
    OURS: ours,
    "effdet": effdet,
    "ssdlite": torchvision_model("ssdlite320_mobilenet_v3_large"),
    "fasterrcnn": torchvision_model("fasterrcnn_resnet50_fpn_v2"),
}


def serve(options: argparse.Namespace) -> None:
    """A contender's process: one line of JSON for each line of input, until input ends."""
    import time

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(options.threads)
    run = CONTENDERS[options.serve](options.model, options.weights, options.batch)
    images = pictures(options.model, options.batch)
    with torch.no_grad():
        for _ in sys.stdin:
            start = time.perf_counter()
            scores = run(images)
            seconds = time.perf_counter() - start
            answers.write(json.dumps({"seconds": seconds, "scores": scores[:TOP].tolist()}) + "\n")


def contender(
    name: str, options: argparse.Namespace, weights: Path
) -> ContextManager[Callable[[], Any]]:
    """Start a contender; see `contenders.started`."""
    words = [sys.executable, __file__, options.model, "--serve", name, "--weights", str(weights)]
    words += ["--batch", str(options.batch), "--threads", str(options.threads)]
    return started(name, words)


def compare(options: argparse.Namespace) -> Dict[str, Any]:
    """Run all contenders in turn; medians in milliseconds and ratios to ours."""
    names = [OURS, *options.peers]
    milliseconds: Dict[str, List[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        weights = Path(folder) / "lively.pth"
        lively_weights(options.model, weights)
        ask = {name: stack.enter_context(contender(name, options, weights)) for name in names}
        first = {name: ask[name]() for name in names}  # compiles and warms up
        if "effdet" in first:
            require_agreement(first[OURS]["scores"], first["effdet"]["scores"])
        for _ in range(options.rounds):
            for name in names:
                milliseconds[name].append(1e3 * ask[name]()["seconds"])
    medians = {name: statistics.median(times) for name, times in milliseconds.items()}
    return {
        "model": options.model,
        "batch": options.batch,
        "threads": options.threads,
        "torch": torch.__version__,
        "rounds": options.rounds,
        "milliseconds": medians,
        "ratios": {name: medians[name] / medians[OURS] for name in options.peers},
    }


def require_agreement(mine: List[float], theirs: List[float]) -> None:
    """Raise unless nearly all of our detections have one of the same score among effdet's.

    Not all: an overlap that is 0.5 but for rounding keeps a box here and drops it there.
    """
    found = sum(any(abs(a - b) < SAME_SCORE for b in theirs) for a in mine)
    if len(mine) != len(theirs) or found < AGREE * len(mine):
        raise RuntimeError(
            f"ours and effdet differ: {len(mine)} and {len(theirs)} detections, {found} in common"
        )


def peers(text: str) -> List[str]:
    """Known peers between commas."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in CONTENDERS or name == OURS:
            known = ", ".join(peer for peer in CONTENDERS if peer != OURS)
            raise argparse.ArgumentTypeError(f"no peer '{name}'; peers: {known}")
    return names


def model(text: str) -> str:
    """A model's full name."""
    from detectors import model_name

    try:
        return model_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> None:
    """Compare, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=model, default="efficientdet-d0")
    parser.add_argument("--batch", type=int, default=1, help="images per call")
    parser.add_argument("--peers", type=peers, default=["effdet"], help="effdet,ssdlite,fasterrcnn")
    parser.add_argument("--rounds", type=int, default=11, help="timed calls of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", metavar="FILE", help="write results as JSON; - is stdout")
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    report = compare(options)
    text = json.dumps(report, indent=2)
    if options.json == "-":
        print(text)
        return
    if options.json:
        Path(options.json).write_text(text + "\n")
    print("{model}, batch {batch}, {threads} threads, torch {torch}".format(**report))
    for name, value in report["milliseconds"].items():
        ratio = f"{report['ratios'][name]:6.2f}x" if name in report["ratios"] else ""
        print(f"{name:12} {value:9.1f} ms {ratio}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
