"""Fills a model with weights of any origin, completely or not at all.

What no tensor tells (normalisation, padding, the form of the anchors) is bound to the weights by
their origin and set in the model; what does not fit is refused before the model is touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Union

from torch import Tensor

from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.inference import EfficientDet, build_efficientdet
from detectors.postprocess import PostprocessConfig
from detectors.weights import binding, fit
from detectors.weights.preprocess import NAMED
from detectors.weights.report import LoadReport
from detectors.weights.source import Source, open_source


def load_weights(
    model: EfficientDet,
    path: Union[str, Path],
    *,
    ema: bool = True,
    head: Optional[str] = None,
    preprocess: Optional[str] = None,
) -> LoadReport:
    """Fill every tensor of a model from a file, and set its normalisation and anchors to match.

    Args:
        model: not folded; changed in place, and only if everything fits.
        path: effdet's `.pth`, an AutoML checkpoint or tarball, `.safetensors`, or one of ours.
        ema: take the moving average of the weights where the file has both.
        head: None, or "new": the last layer of the class head keeps the model's values.
        preprocess: "imagenet" or "advprop", where the file cannot tell; None to go by its origin.

    Returns:
        What was used, converted, kept and assumed.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: damaged, unsafe, of unknown origin, of another model or number of classes.
    """
    if head not in (None, "new"):
        raise ValueError(f"head must be None or 'new', got {head!r}")
    if preprocess is not None and preprocess not in NAMED:
        raise ValueError(f"preprocess must be one of {list(NAMED)}, got {preprocess!r}")
    own = model.network.state_dict()
    if "bifpn.cells.0.nodes.0.norm.running_var" not in own:
        raise ValueError("the model is folded: load weights before fold_batch_norm")
    source = open_source(Path(path), ema)
    fit.require_detector(source, own, model.config)
    converted = fit.convert(source, own, model.config)
    fit.require_same_model(source, converted, own, model.config)
    fit.require_same_classes(source, converted.state, model.config, head)
    taken = {k: v for k, v in converted.state.items() if head is None or fit.CLASS_HEAD not in k}
    fit.require_finite(taken, source.path)

    report = _report(source, taken, own, model.config, preprocess, head)
    model.network.load_state_dict({**own, **taken})
    model.configure(
        mean=report.preprocess.mean,
        std=report.preprocess.std,
        anchor_aspects=report.anchor_aspects,
    )
    return report


def load(path: Union[str, Path], *, nms: str = "device") -> EfficientDet:
    """The model of one of our checkpoints, as it was saved.

    Args:
        path: what `save` wrote, or a run folder.
        nms: as `detectors.efficientdet` takes it.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: damaged, or not one of ours with a record.
    """
    source = open_source(Path(path), ema=True)
    if source.record is None:
        raise ValueError(
            f"{source.path} ({source.origin}) does not say which model it is: build one with"
            " efficientdet(name) and fill it with load_weights(model, path)"
        )
    model = build_efficientdet(source.record.config, PostprocessConfig(), nms)
    load_weights(model, source.path)
    return model


def _report(
    source: Source,
    taken: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    config: EfficientDetConfig,
    preprocess: Optional[str],
    head: Optional[str],
) -> LoadReport:
    chosen, notes = binding.preprocess(source, config, preprocess)
    converted = []
    if source.origin == "automl":
        converted.append("kernels from height, width, in, out")
    if source.origin in ("effdet", "automl"):
        converted.append("box channels from y, x to x, y")
    dtypes = {str(v.dtype)[6:] for n, v in taken.items() if v.dtype != own[n].dtype}
    if dtypes:
        converted.append(f"from {', '.join(sorted(dtypes))}")
    saved = source.record.config.image_size if source.record is not None else config.image_size
    if saved != config.image_size:
        notes.append(f"saved at {saved} pixels, model has {config.image_size}")
    return LoadReport(
        path=source.path,
        origin=source.origin,
        model=config.name,
        sha256=source.sha256,
        num_tensors=len(taken),
        num_values=sum(value.numel() for value in taken.values()),
        kept=tuple(name for name in own if name not in taken),
        skipped=source.skipped,
        averaged=source.averaged,
        converted=tuple(converted),
        preprocess=chosen,
        anchor_aspects=binding.anchor_aspects(source, config),
        class_names=None if head == "new" else binding.class_names(source, config.num_classes),
        notes=tuple(notes),
    )
