"""Our own checkpoints: a network's tensors and a record of what it takes to use them.

`.pt` is `{"detectors": record, "state_dict": tensors}`; `.safetensors` has the record as JSON in
its metadata. The record is plain types only: version, model, config, classes, preprocess.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights.effdet import to_effdet
from detectors.weights.preprocess import Preprocess, from_record, from_statistics
from detectors.weights.tensor_file import write_safetensors, write_torch

VERSION = 1
RUN_FILES = ("best.ckpt", "last.ckpt", "best.pt", "last.pt")  # in a run folder, best first

ClassNames = Optional[Tuple[Optional[str], ...]]


@dataclass(frozen=True)
class Record:
    """What our checkpoints say beside their tensors."""

    config: EfficientDetConfig
    """Of the model that was saved."""
    classes: ClassNames
    """Names by label."""
    preprocess: Preprocess
    """Of the images it was trained on."""


def save(
    model: EfficientDet,
    path: Union[str, Path],
    *,
    classes: Optional[Sequence[Optional[str]]] = None,
    preprocess: Optional[Preprocess] = None,
    layout: str = "detectors",
) -> Path:
    """Write a model's weights, complete or not at all.

    Args:
        model: with its batch norms, not folded.
        path: `.pt`, `.pth` or `.ckpt` for torch's format, `.safetensors` for that one.
        classes: names by label; `model.config.num_classes` of them.
        preprocess: of the images; by default what the model's mean and std mean.
        layout: "detectors", or "effdet" for a bare state dict that effdet's models load.

    Returns:
        The path.

    Raises:
        ValueError: a folded model, a wrong number of names, an unknown suffix or layout.
    """
    path = Path(path)
    config = model.config
    state = {name: value.detach().cpu() for name, value in model.network.state_dict().items()}
    if "bifpn.cells.0.nodes.0.norm.running_var" not in state:
        raise ValueError(f"{config.name} is folded: save it before fold_batch_norm")
    if classes is not None and len(classes) != config.num_classes:
        raise ValueError(
            f"classes has {len(classes)} names, the model {config.num_classes} classes"
        )
    if path.suffix not in (".pt", ".pth", ".ckpt", ".safetensors"):
        raise ValueError(
            f"checkpoint must end in .pt, .pth, .ckpt or .safetensors, got {path.name}"
        )
    if layout not in ("detectors", "effdet"):
        raise ValueError(f"layout must be 'detectors' or 'effdet', got {layout!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == "effdet":
        state = to_effdet(state, config)
        record: Dict[str, Any] = {}
    else:
        record = _to_record(config, classes, preprocess)
    if path.suffix == ".safetensors":
        write_safetensors(path, state, {"detectors": json.dumps(record)} if record else {})
    else:
        write_torch(path, {"detectors": record, "state_dict": state} if record else state)
    return path


def find(path: Path) -> Path:
    """The checkpoint of a run folder, the best before the last; any other path as it is.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if not path.exists() and not path.with_name(path.name + ".index").exists():
        raise FileNotFoundError(f"no weights at {path}")
    for name in RUN_FILES if path.is_dir() else ():
        if (path / name).is_file():
            return path / name
    return path


def read_record(value: object, path: Path) -> Record:
    """A file's record, checked.

    Args:
        value: the dict, or its JSON text.
        path: for messages.

    Raises:
        ValueError: written by a later version, or not a record.
    """
    try:
        record = json.loads(value) if isinstance(value, str) else value
        if not isinstance(record, dict) or not isinstance(record.get("version"), int):
            raise ValueError("it has no version")
        if record["version"] > VERSION:
            raise ValueError(f"it has version {record['version']}, this code reads up to {VERSION}")
        classes = record["classes"]
        return Record(
            _config(record["config"]),
            None if classes is None else tuple(classes),
            from_record(record["preprocess"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its 'detectors' record is not usable: {error}") from None


def _to_record(
    config: EfficientDetConfig,
    classes: Optional[Sequence[Optional[str]]],
    preprocess: Optional[Preprocess],
) -> Dict[str, Any]:
    preprocess = preprocess or from_statistics(config.mean, config.std)
    if (preprocess.mean, preprocess.std) != (config.mean, config.std):
        raise ValueError(
            f"preprocess {preprocess.name} has mean {preprocess.mean}, std {preprocess.std}; the"
            f" model normalises with {config.mean}, {config.std}: configure() it first"
        )
    return {
        "version": VERSION,
        "model": config.name,
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()},
        "classes": None if classes is None else list(classes),
        "preprocess": preprocess.to_record(),
    }


def _config(record: Mapping[str, Any]) -> EfficientDetConfig:
    """The inverse of `asdict`, tuples restored."""
    known = {field.name for field in fields(EfficientDetConfig)}
    if not set(record) <= known:
        raise ValueError(f"config has unknown fields {sorted(set(record) - known)}")
    plain: Dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in record.items()
    }
    return EfficientDetConfig(**plain)
