"""From the words MODEL and --weights to a module that is ready to run."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from detectors import efficientdet, model_name
from detectors.commands.infer.arguments import Arguments, looks_like_path
from detectors.experiment.console import Progress
from detectors.folding import fold_batch_norm
from detectors.models.efficientdet.cost import count_multiply_adds
from detectors.models.efficientdet.inference import EfficientDet, build_efficientdet
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.postprocess import PostprocessConfig
from detectors.weights import LoadReport, fetch, load_weights
from detectors.weights.checkpoint import find
from detectors.weights.coco_names import COCO_90
from detectors.weights.known import KNOWN
from detectors.weights.preprocess import from_statistics
from detectors.weights.source import open_source

__all__ = ["Detector", "load_model", "prepare_detector", "wanted_labels"]

SEED = 0  # of random weights: two runs with --random-weights see the same network

PRECISIONS = {"fp32": torch.float32, "half": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Detector:
    """A model and what only the host needs to know of it."""

    model: EfficientDet
    """With its weights; folded, and in the precision that was asked for."""
    name: str
    """`efficientdet-d0`."""
    class_names: Tuple[Optional[str], ...]
    """By label; None for a slot without a class."""
    padding: Tuple[int, int, int]
    """RGB beside the picture, by default what the weights were trained with."""
    resample: str
    """How images are resized: the way of the weights' origin."""
    weights: str
    """Where the weights are from, for people."""
    weights_record: Dict[str, Any]
    """The same for files."""
    precision: str
    """fp32, half or bf16."""
    num_parameters: int
    """Trainable numbers, before batch norms were folded."""
    multiply_adds: int
    """Of the network's convolutions, for one image."""

    @property
    def image_size(self) -> Tuple[int, int]:
        """(height, width) of the network's input."""
        return self.model.config.image_size

    def headline(self, device: str) -> str:
        """What runs where: the first line of a run."""
        height, width = self.image_size
        millions = f"{self.num_parameters / 1e6:.1f} M parameters"
        giga = f"{self.multiply_adds / 1e9:.1f} GMAC"
        return (
            f"device {device} · {self.name} {millions} {giga} {width}x{height} {self.precision}"
            f" · {self.weights}"
        )

    def header(self) -> Dict[str, Any]:
        """What a file of detections says of how they came, in plain types."""
        settings = dataclasses.asdict(self.model.postprocess.config)
        del settings["score_threshold"]  # of the graph; the host's is the one that counts
        return {
            "model": self.name,
            "weights": self.weights_record,
            "image_size": list(self.image_size),
            "precision": self.precision,
            "resample": self.resample,
            "padding": list(self.padding),
            **settings,
        }


def prepare_detector(
    model: EfficientDet,
    report: Optional[LoadReport],
    args: Arguments,
    precision: str,
    score_threshold: float,
) -> Detector:
    """Set what the command line asks for, fold the batch norms, convert.

    Args:
        model: of `load_model`; used up.
        report: of its weights.
        args: the command line.
        precision: fp32, half or bf16.
        score_threshold: of the NMS inside the graph.

    Raises:
        ValueError: a setting that the model refuses.
    """
    model.configure(image_size=args.size, postprocess=postprocess_config(args, score_threshold))
    model.nms = "device" if args.nms == "device" else "none"
    names = report.class_names if report is not None else None
    if names is None:
        names = COCO_90 if model.config.num_classes == len(COCO_90) else numbered(model)
    preprocess = from_statistics(model.config.mean, model.config.std)
    if report is not None:
        preprocess = report.preprocess
    padding = (0, 0, 0) if args.black_padding else preprocess.pad
    automl = report is not None and report.origin == "automl"
    num_parameters = sum(value.numel() for value in model.network.parameters())
    folded = fold_batch_norm(model)
    multiply_adds = count_multiply_adds(
        folded.network, model.config.image_size, model.config.max_level
    )
    folded = folded.to(memory_format=torch.channels_last).to(PRECISIONS[precision])
    return Detector(
        model=folded,
        name=model.config.name,
        class_names=names,
        padding=padding,
        resample=args.resample or ("tf" if automl else "pil"),
        weights=describe(report),
        weights_record=record(report),
        precision=precision,
        num_parameters=num_parameters,
        multiply_adds=multiply_adds,
    )


def load_model(args: Arguments) -> Tuple[EfficientDet, Optional[LoadReport]]:
    """The model of a name or of a checkpoint, with its weights; no report where they are random.

    Raises:
        ValueError: no such model, or weights that do not fit.
        FileNotFoundError: a checkpoint that does not exist.
        RuntimeError: weights that cannot be downloaded. Never random weights instead.
    """
    torch.manual_seed(SEED)
    if looks_like_path(args.model):
        if args.weights is not None or args.random_weights:
            raise ValueError(
                f"{args.model} is a checkpoint and brings its weights: leave out --weights and"
                " --random-weights, or give a model's name"
            )
        return load_checkpoint(Path(args.model))
    name = model_name(args.model)
    model = efficientdet(name, args.num_classes)
    if args.random_weights:
        return spread_outputs(model, seed=SEED), None
    path = args.weights
    if path is None or (str(path) in KNOWN and not path.exists()):
        path = fetch_with_progress(name if path is None else str(path), args.quiet)
    return model, load_weights(model, path)


def load_checkpoint(path: Path) -> Tuple[EfficientDet, LoadReport]:
    """The model that one of our checkpoints, or the best of a run folder, says it is."""
    file = find(path)
    if file.is_dir():
        raise FileNotFoundError(
            f"no best.ckpt or last.ckpt in {path}: the first word is the model, as in"
            f" infer.py efficientdet-d2 {path}"
        )
    source = open_source(file, ema=True)
    if source.record is None:
        raise ValueError(
            f"{file} ({source.origin}) does not say which model it is:"
            f" give the model's name, and the file with --weights {file}"
        )
    model = build_efficientdet(source.record.config, PostprocessConfig())
    return model, load_weights(model, file)


def fetch_with_progress(name: str, quiet: bool) -> Path:
    """The published checkpoint, from the cache or the network, with one line while it arrives."""
    megabyte = 1 << 20
    with Progress(0, quiet=quiet, unit="MB") as progress:

        def arrived(done: int, total: Optional[int]) -> None:
            progress.show(done // megabyte, (total or 0) // megabyte)

        return fetch(name, progress=arrived)


def postprocess_config(args: Arguments, score_threshold: float) -> PostprocessConfig:
    """The settings of top-k and NMS that the command line asks for."""
    return PostprocessConfig(
        top_k=args.top_k,
        multiclass=args.multiclass,
        iou_threshold=1.0 if args.worst_case else args.iou,  # nothing overlaps by more than all
        score_threshold=score_threshold,
        max_detections=args.max,
        sigma=args.sigma if args.soft == "gaussian" else 0.0,
    )


def numbered(model: EfficientDet) -> Tuple[str, ...]:
    """Names for classes that nobody named."""
    return tuple(f"class {label}" for label in range(model.config.num_classes))


def wanted_labels(
    names: Sequence[Optional[str]], wanted: Optional[Sequence[str]]
) -> Optional[List[int]]:
    """The labels of --classes; None for all.

    Raises:
        ValueError: a name that the model does not have, with the nearest.
    """
    if wanted is None:
        return None
    labels = {name.lower(): label for label, name in enumerate(names) if name is not None}
    unknown = [name for name in wanted if name.lower() not in labels]
    if unknown:
        near = difflib.get_close_matches(unknown[0].lower(), labels, n=3, cutoff=0.4)
        raise ValueError(
            f"--classes: {', '.join(unknown)} is not among {len(names)} names;"
            f" nearest: {', '.join(near) or ', '.join(list(labels)[:5])}"
        )
    return [labels[name.lower()] for name in wanted]


def describe(report: Optional[LoadReport]) -> str:
    """One line for the screen."""
    if report is None:
        return "random weights: the detections mean nothing"
    return f"weights {report.path.name} ({report.origin}), sha256 {report.sha256[:8]}…"


def record(report: Optional[LoadReport]) -> Dict[str, Any]:
    """Plain types for the header of files."""
    if report is None:
        return {"origin": "random", "seed": SEED}
    logging.getLogger(__name__).info("%s", report.render())
    return {"origin": report.origin, "file": str(report.path), "sha256": report.sha256}
