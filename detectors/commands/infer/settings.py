"""How this run executes: --config and --set, then the command line's own options, then what the
device allows.
"""

from __future__ import annotations

import dataclasses

from detectors.commands.infer.arguments import Arguments
from detectors.experiment.inference_settings import InferenceSettings, load_settings

__all__ = ["graph_threshold", "precision_of", "run_settings"]


def run_settings(args: Arguments, model: str, num_images: int) -> InferenceSettings:
    """The settings of one run.

    Args:
        args: --config, --set, --batch and --repeat are used.
        model: `efficientdet-d0`.
        num_images: for one process; a call of the executor never takes more than there are.

    Raises:
        ValueError: no such config, key or value.
    """
    settings = InferenceSettings()
    if args.config is not None:
        settings = load_settings(model, args.config, args.set)
    if isinstance(args.batch, int):
        settings = dataclasses.replace(settings, micro_batch_size=args.batch)
    if args.compile_only is not None or args.executable is not None:
        return settings
    passes = num_images * (args.repeat or 1)
    step = settings.micro_batch_size * settings.replication_factor
    # a benchmark's first call warms up, so there must be a second, and a full one
    most = passes // (2 * step) if args.benchmark else -(-passes // step)
    iterations = min(settings.device_iterations, max(1, most))
    return dataclasses.replace(settings, device_iterations=iterations)


def precision_of(args: Arguments, settings: InferenceSettings, device: str) -> str:
    """fp32 unless asked for, or half on the IPU, or what --config says."""
    if args.precision is not None:
        return args.precision
    if args.config is not None and device == "ipu":
        return settings.precision
    return "half" if device == "ipu" else "fp32"


def graph_threshold(args: Arguments, device: str) -> float:
    """The score threshold of the NMS inside the graph.

    Where time is not the point the graph keeps everything and the host drops what is not over
    --score: the same detections, since NMS goes by descending score, and the best score is known
    when nothing is over it. On the IPU, in a benchmark and in an executable the threshold ends NMS
    early.
    """
    if args.worst_case:
        return 0.0
    fixed = device == "ipu" or args.benchmark or args.compile_only or args.executable
    return args.score if fixed else 0.0
