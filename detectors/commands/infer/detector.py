"""A model as the command line asks for it, and what only the host needs to know of it."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from data.fitting import Fit
from data.formats import Classes
from detectors.commands.infer.arguments import Arguments
from detectors.commands.infer.model import SEED
from detectors.folding import fold_batch_norm
from detectors.models.efficientdet import cost as efficientdet_cost
from detectors.models.faster_rcnn import cost as faster_rcnn_cost
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.postprocess import PostprocessConfig
from detectors.weights import LoadReport
from detectors.weights.category_ids import coco_ids
from detectors.weights.coco_names import COCO_90
from detectors.weights.family import Detector as Model
from detectors.weights.preprocess import from_statistics
from detectors.weights.voc_names import VOC_20

__all__ = ["Detector", "prepare_detector", "wanted_labels"]

PRECISIONS = {"fp32": torch.float32, "half": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Detector:
    """A model and what only the host needs to know of it."""

    model: Model
    """With its weights; folded, and in the precision that was asked for."""
    name: str
    """`efficientdet-d0`."""
    classes: Classes
    """Their names, and their ids in COCO's results, by label."""
    fit: Fit
    """How pictures come into the network's input: the way of the weights' origin, or of the
    training; and the colour beside them.
    """
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

    def headline(self, device: str, instances: int = 1) -> str:
        """What runs where, and in how many processes: the first line of a run."""
        height, width = self.image_size
        millions = f"{self.num_parameters / 1e6:.1f} M parameters"
        several = f" · {instances} instances" if instances > 1 else ""
        giga = f"{self.multiply_adds / 1e9:.1f} GMAC"
        return (
            f"device {device}{several} · {self.name} {millions} {giga} {width}x{height}"
            f" {self.precision} · {self.weights}"
        )

    @property
    def form(self) -> Dict[str, Any]:
        """What of the configuration is compiled in, beyond size, classes and postprocessing."""
        if not isinstance(self.model, FasterRCNN):
            return {}
        names = ("depth", "variant", "stride_in_1x1", "anchors", "rpn", "box_head")
        config = dataclasses.asdict(self.model.config)
        return {name: config[name] for name in names}

    def header(self) -> Dict[str, Any]:
        """What a file of detections says of how they came, in plain types."""
        settings = dataclasses.asdict(self.model.postprocess.config)
        del settings["score_threshold"]  # of the graph; the host's is the one that counts
        return {
            "model": self.name,
            "weights": self.weights_record,
            "image_size": list(self.image_size),
            "precision": self.precision,
            "resample": self.fit.resample,
            "padding": list(self.fit.pad),
            **({} if self.fit.how == "letterbox" else {"fit": self.fit.how}),
            **settings,
        }


def prepare_detector(
    model: Model,
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
    model.configure(
        image_size=args.size, postprocess=postprocess_config(model, args, score_threshold)
    )
    model.nms = "device" if args.nms == "device" else "none"
    num_parameters = sum(value.numel() for value in model.network.parameters())
    folded = fold_batch_norm(model)
    multiply_adds = count_multiply_adds(folded)
    folded = folded.to(memory_format=torch.channels_last).to(PRECISIONS[precision])
    return Detector(
        model=folded,
        name=model.config.name,
        classes=classes_of(model, report),
        fit=fit_of(model, report, args),
        weights=describe(report),
        weights_record=record(report),
        precision=precision,
        num_parameters=num_parameters,
        multiply_adds=multiply_adds,
    )


def count_multiply_adds(model: Model) -> int:
    """Of one image."""
    config = model.config
    if isinstance(model, FasterRCNN):
        regions = model.config.rpn.post_nms[1]
        return faster_rcnn_cost.count_multiply_adds(model.network, config.image_size, regions)
    return efficientdet_cost.count_multiply_adds(
        model.network, config.image_size, model.config.max_level
    )


def classes_of(model: Model, report: Optional[LoadReport]) -> Classes:
    """The checkpoint's names and ids; where it has neither, COCO's or VOC's if the model has as
    many, else numbers.
    """
    ids = None if report is None else report.category_ids
    if report is not None and report.class_names is not None:
        return Classes(report.class_names, ids)
    usual = VOC_20 if isinstance(model, FasterRCNN) else COCO_90
    if ids is None and model.config.num_classes == len(usual):
        return Classes(usual, coco_ids(usual))
    return Classes(numbered(model), ids)


def fit_of(model: Model, report: Optional[LoadReport], args: Arguments) -> Fit:
    """How pictures come into the network's input: as in training, where the checkpoint tells.

    Raises:
        ValueError: a --size that the training's way has no room in.
    """
    config = model.config
    preprocess = from_statistics(config.mean, config.std)
    trained: Dict[str, Any] = {}
    if report is not None:
        preprocess = report.preprocess
        trained = report.extra.get("image", {})
    automl = report is not None and report.origin == "automl"
    return Fit(
        config.image_size,
        trained.get("fit", "letterbox"),
        tuple(trained.get("short_edges", ())),
        trained.get("long_edge", 0),
        args.resample or ("tf" if automl else "pil"),
        (0, 0, 0) if args.black_padding else preprocess.pad,
    )


def postprocess_config(model: Model, args: Arguments, score_threshold: float) -> PostprocessConfig:
    """The settings of top-k and NMS that the command line asks for."""
    own = model.postprocess.config
    iou = own.iou_threshold if args.iou is None else args.iou
    return dataclasses.replace(
        own,
        top_k=args.top_k,
        multiclass=args.multiclass or isinstance(model, FasterRCNN),
        iou_threshold=1.0 if args.worst_case else iou,  # nothing overlaps by more than all
        score_threshold=score_threshold,
        max_detections=args.max,
        sigma=args.sigma if args.soft == "gaussian" else 0.0,
    )


def numbered(model: Model) -> Tuple[str, ...]:
    """Names for classes that nobody named."""
    return tuple(f"class {label}" for label in range(model.config.num_classes))


def wanted_labels(classes: Classes, wanted: Optional[Sequence[str]]) -> Optional[List[int]]:
    """The labels of --classes; None for all.

    Raises:
        ValueError: a name that the model does not have, with the nearest.
    """
    if wanted is None:
        return None
    labels = {
        name.lower(): label for name, label in classes.labels.items() if label not in classes.unused
    }
    unknown = [name for name in wanted if name.lower() not in labels]
    if unknown:
        near = difflib.get_close_matches(unknown[0].lower(), labels, n=3, cutoff=0.4)
        raise ValueError(
            f"--classes: {', '.join(unknown)} is not among {len(classes)} names;"
            f" nearest: {', '.join(near) or ', '.join(list(labels)[:5])}"
        )
    return [labels[name.lower()] for name in wanted]


def describe(report: Optional[LoadReport]) -> str:
    """One line for the screen."""
    if report is None:
        return "random weights: the detections mean nothing"
    return f"weights {report.path.name} ({report.of}), sha256 {report.sha256[:8]}…"


def record(report: Optional[LoadReport]) -> Dict[str, Any]:
    """Plain types for the header of files."""
    if report is None:
        return {"origin": "random", "seed": SEED}
    logging.getLogger(__name__).info("%s", report.render())
    return {"origin": report.origin, "file": str(report.path), "sha256": report.sha256}
