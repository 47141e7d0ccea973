"""`poplar_ops` beside torch and torchvision, interleaved in one process.

    python benchmarks/ops.py [--rounds N] [--only TEXT] [--simd LEVEL] [--json -]

Workloads: NMS as EfficientDet-D0 runs it (5000 candidates, 90 classes, 100 kept) and as Faster
R-CNN's proposals do (12000 -> 2000 and 6000 -> 300, one class, IoU 0.7), on boxes that cluster
round objects, with a small and a large share of noise; the top 5000 of D0's 49104 x 90 scores; and
ROI-Align of 512 proposals as Faster R-CNN's second stage takes them (a 1024 x 50 x 76 map, 14 x 14
bins, 4 samples each), its result in new memory and in the pool's. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor

import poplar_ops
from poplar_ops import library, pool

PEER, OURS = "peer", "poplar_ops"


class Workload(NamedTuple):
    """One thing to compute, by a peer and by us, and whether the results agree."""

    name: str
    peer: Callable[[], Tensor]
    ours: Callable[[], Tensor]
    tolerance: float = 0.0
    """Largest difference, as a share of the largest value where that exceeds 1."""
    max_rounds: int = 1000
    """Of a peer that takes seconds."""


def boxes_round_objects(
    count: int, objects: int, size: float, noise: float, generator: torch.Generator
) -> Tuple[Tensor, Tensor]:
    """Boxes (count, 4) xyxy pixels scattered round a few objects, and labels (count,) of 0..89.

    The boxes of an object share its label; a share `noise` of boxes and their labels is arbitrary.
    """
    centres = torch.rand(objects, 2, generator=generator) * size
    extents = torch.exp(torch.rand(objects, 2, generator=generator) * 2.5) * size / 50
    of = torch.randint(0, objects, (count,), generator=generator)
    jitter = torch.randn(count, 2, generator=generator)
    centre = centres[of] + 0.12 * jitter * extents[of]
    extent = extents[of] * torch.exp(0.15 * torch.randn(count, 2, generator=generator))
    is_noise = (torch.rand(count, generator=generator) < noise).unsqueeze(1)
    centre = centre.where(~is_noise, torch.rand(count, 2, generator=generator) * size)
    anywhere = torch.exp(torch.rand(count, 2, generator=generator) * 3) * size / 60
    extent = extent.where(~is_noise, anywhere)
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], dim=1).clamp(0, size)
    strays = torch.randint(0, 90, (count,), generator=generator)
    return boxes, of.where(~is_noise.squeeze(1), strays)


def efficientdet_nms(noise: float, generator: torch.Generator) -> Workload:
    """5000 candidates of 90 classes, IoU 0.5, the best 100."""
    from torchvision.ops import batched_nms

    boxes, labels = boxes_round_objects(5000, 30, 512.0, noise, generator)
    scores = torch.rand(5000, generator=generator) ** 3

    def peer() -> Tensor:
        kept: Tensor = batched_nms(boxes, scores, labels, 0.5)
        return kept[:100]

    batch = (scores.unsqueeze(0), boxes.unsqueeze(0), labels.int().unsqueeze(0))

    def ours() -> Tensor:
        return poplar_ops.nms(*batch, iou_threshold=0.5, max_detections=100).indices[0]

    return Workload(f"nms D0 5000->100, noise {noise:.0%}", peer, ours)


def proposals_nms(count: int, kept: int, noise: float, generator: torch.Generator) -> Workload:
    """Proposals of one class, IoU 0.7."""
    from torchvision.ops import nms

    boxes, _ = boxes_round_objects(count, 60, 1000.0, noise, generator)
    scores = torch.rand(count, generator=generator)

    def peer() -> Tensor:
        proposals: Tensor = nms(boxes, scores, 0.7)
        return proposals[:kept]

    batch = (scores.unsqueeze(0), boxes.unsqueeze(0))

    def ours() -> Tensor:
        return poplar_ops.nms(*batch, iou_threshold=0.7, max_detections=kept).indices[0]

    return Workload(f"nms RPN {count}->{kept}, noise {noise:.0%}", peer, ours)


def top_scores(generator: torch.Generator) -> Workload:
    """The top 5000 of all of D0's scores, as a sigmoid of low logits spreads them."""
    scores = torch.sigmoid(torch.randn(1, 49104 * 90, generator=generator) * 1.6 - 5)

    def peer() -> Tensor:
        return scores.topk(5000, dim=1).values

    def ours() -> Tensor:
        return poplar_ops.topk_select(scores, 5000).values

    return Workload("topk_select D0 5000 of 49104*90", peer, ours)


def roi_align(generator: torch.Generator) -> List[Workload]:
    """512 proposals on the map of an 800 x 1216 image: forward twice, and backward."""
    import torchvision.ops

    features = torch.randn(1, 1024, 50, 76, generator=generator)
    boxes, _ = boxes_round_objects(512, 40, 800.0, 0.5, generator)
    indexed = torch.cat([torch.zeros(512, 1), boxes], dim=1)  # torchvision's carry the image
    settings = ((14, 14), 1 / 16, 2, True)

    def theirs(x: Tensor) -> Tensor:
        pooled: Tensor = torchvision.ops.roi_align(x, indexed, *settings)
        return pooled

    def mine(x: Tensor) -> Tensor:
        return poplar_ops.roi_align(x, boxes.unsqueeze(0), *settings).flatten(0, 1)

    def mine_with(limit: int) -> Tensor:
        pool.set_limit(limit)
        return mine(features)

    @functools.lru_cache(maxsize=None)
    def graph(function: Callable[[Tensor], Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        x = features.clone().requires_grad_()
        out = function(x)
        return out, x, torch.randn(out.shape, generator=torch.Generator().manual_seed(2))

    def backward(function: Callable[[Tensor], Tensor]) -> Tensor:
        out, x, grad = graph(function)
        return torch.autograd.grad(out, x, grad, retain_graph=True)[0]

    name = "roi_align 512x1024x14x14"
    forward = functools.partial(theirs, features)
    new, pooled = (functools.partial(mine_with, limit) for limit in (0, pool.DEFAULT_MB << 20))
    return [
        Workload(f"{name}, new memory", forward, new, 1e-5, 7),
        Workload(f"{name}, pooled", forward, pooled, 1e-5, 7),
        Workload(f"{name}, backward", lambda: backward(theirs), lambda: backward(mine), 2e-5, 3),
    ]


def workloads() -> List[Workload]:
    """All of them; those that need torchvision only where it is installed."""
    generator = torch.Generator().manual_seed(1)
    chosen = [top_scores(generator)]
    try:
        import torchvision  # noqa: F401
    except ImportError:
        print("torchvision is not installed: nms and roi_align are left out", file=sys.stderr)
        return chosen
    for noise in (0.3, 0.9):
        chosen.append(efficientdet_nms(noise, generator))
        chosen.append(proposals_nms(12000, 2000, noise, generator))
        chosen.append(proposals_nms(6000, 300, noise, generator))
    return chosen + roi_align(generator)


def agree(workload: Workload) -> bool:
    """Whether both find the same; padding after the peer's last row does not count."""
    peer, ours = workload.peer(), workload.ours()
    if workload.tolerance > 0:
        unit = float(peer.abs().max().clamp(min=1))
        return float((peer - ours).abs().max()) <= workload.tolerance * unit
    return torch.equal(peer, ours.flatten()[: peer.numel()].view_as(peer).to(peer.dtype))


def measure(workload: Workload, rounds: int) -> Dict[str, float]:
    """Median milliseconds of peer and ours, run in turn."""
    functions = {PEER: workload.peer, OURS: workload.ours}
    samples: Dict[str, List[float]] = {name: [] for name in functions}
    for _ in range(min(rounds, workload.max_rounds)):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(times) for name, times in samples.items()}


def main() -> None:
    """Run every workload, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="interleaved runs of each workload")
    parser.add_argument("--only", default="", help="workloads with this text in their names")
    parser.add_argument("--simd", choices=library.SIMD_LEVELS, help="below the CPU's best")
    parser.add_argument("--json", metavar="FILE", help="write results as JSON; - is stdout")
    options = parser.parse_args()
    if options.simd:
        library.set_simd(options.simd)

    results = {}
    for workload in workloads():
        if options.only not in workload.name:
            continue
        if not agree(workload):
            raise RuntimeError(f"{workload.name}: ours differs from the peer's result")
        results[workload.name] = measure(workload, options.rounds)
    report = {
        "backend": poplar_ops.backend(),
        "simd": library.simd(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "milliseconds": results,
        "ratios": {name: ms[PEER] / ms[OURS] for name, ms in results.items()},
    }
    if options.json == "-":
        json.dump(report, sys.stdout, indent=2)
        print()
        return
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    simd = library.simd() or "no library"
    print(f"backend {poplar_ops.backend()}, {simd}, torch {torch.__version__}")
    heading = f"median ms of up to {options.rounds} runs"
    print(f"{heading:36} {PEER:>9} {OURS:>10} {'ratio':>7}")
    for name, ms in results.items():
        print(f"{name:36} {ms[PEER]:9.3f} {ms[OURS]:10.3f} {ms[PEER] / ms[OURS]:6.0f}x")


if __name__ == "__main__":
    main()
