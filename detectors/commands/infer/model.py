"""From the words MODEL and --weights to a model with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import torch

from detectors import efficientdet, faster_rcnn, model_name
from detectors.commands.infer.arguments import Arguments, looks_like_path
from detectors.commands.published import fetch_published
from detectors.models.efficientdet import random_weights as efficientdet_weights
from detectors.models.faster_rcnn import random_weights as faster_rcnn_weights
from detectors.weights import LoadReport, load_checkpoint, load_weights
from detectors.weights.checkpoint import find
from detectors.weights.coco_names import COCO_90
from detectors.weights.family import Detector as Model
from detectors.weights.known import KNOWN
from detectors.weights.load import NoRecordError
from detectors.weights.source import open_source
from detectors.weights.voc_names import VOC_20

__all__ = ["SEED", "load_model"]

SEED = 0  # of random weights: two runs with --random-weights see the same network


def load_model(args: Arguments) -> Tuple[Model, Optional[LoadReport]]:
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
        return open_checkpoint(Path(args.model))
    name = model_name(args.model)
    if name.startswith("faster_rcnn"):
        return load_faster_rcnn(name, args)
    model = efficientdet(name, args.num_classes or len(COCO_90))
    if args.random_weights:
        return efficientdet_weights.spread_outputs(model, seed=SEED), None
    path = args.weights
    if path is None or (str(path) in KNOWN and not path.exists()):
        known = name if path is None else str(path)
        path = fetch_published(known, quiet=args.quiet, otherwise="--weights")
    return model, load_weights(model, path)


def load_faster_rcnn(name: str, args: Arguments) -> Tuple[Model, Optional[LoadReport]]:
    """A Faster R-CNN by its name. Nobody publishes weights for it that we could download; the form
    of those that there are is known by their origin.
    """
    num_classes = args.num_classes or len(VOC_20)
    if args.random_weights:
        model = faster_rcnn(name, num_classes, norm="batch", frozen_stages=0)
        return faster_rcnn_weights.spread_outputs(model, seed=SEED), None
    if args.weights is None:
        raise ValueError(
            f"no weights of {name} are known by name: give a file with --weights, or a checkpoint"
            " of your own, as in infer.py runs/voc0712_mixed/1/best.ckpt images/;"
            " --random-weights is for tests"
        )
    source = open_source(args.weights, ema=True)
    if source.record is not None and source.record.config.name == name:
        saved = source.record.config.num_classes
        if args.num_classes not in (None, saved):
            raise ValueError(
                f"{source.path} has {saved} classes, --num-classes is {args.num_classes}:"
                " leave it out"
            )
        return load_checkpoint(source.path)
    if source.origin == "detectron2":
        model = faster_rcnn(name, num_classes, variant="detectron2", stride_in_1x1=True)
    else:
        model = faster_rcnn(name, num_classes)
    return model, load_weights(model, args.weights)


def open_checkpoint(path: Path) -> Tuple[Model, LoadReport]:
    """The model that one of our checkpoints, or the best of a run folder, says it is."""
    file = find(path)
    if file.is_dir():
        raise FileNotFoundError(
            f"no best.ckpt or last.ckpt in {path}: the first word is the model, as in"
            f" infer.py efficientdet-d2 {path}"
        )
    try:
        return load_checkpoint(file)
    except NoRecordError as error:
        raise ValueError(
            f"{file} ({error.origin}) does not say which model it is:"
            f" give the model's name, and the file with --weights {file}"
        ) from None
