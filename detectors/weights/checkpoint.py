"""Our own checkpoints: a network's tensors and a record of what it takes to use them.

`.pt` is `{"detectors": record, "state_dict": tensors}`, and so is a checkpoint of Lightning, among
other keys; `.safetensors` has the record as JSON in its metadata. The record is plain types only:
version, family, model, config, classes, category_ids, preprocess, and what its maker adds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import (
    Any,
    Dict,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_type_hints,
)

from detectors.models.efficientdet.config import EfficientDetConfig
from detectors.weights.category_ids import CategoryIds, checked_ids, read_ids
from detectors.weights.effdet import to_effdet
from detectors.weights.family import FAMILIES, Config, Detector, family_of
from detectors.weights.preprocess import Preprocess, from_record, from_statistics
from detectors.weights.tensor_file import write_safetensors, write_torch

__all__ = ["ClassNames", "Record", "find", "make_record", "read_record", "save"]

VERSION = 1
RUN_FILES = ("best.ckpt", "last.ckpt", "best.pt", "last.pt")  # in a run folder, best first
OWN_KEYS = ("version", "family", "model", "config", "classes", "category_ids", "preprocess")

ClassNames = Optional[Tuple[Optional[str], ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """What our checkpoints say beside their tensors."""

    family: str
    """A key of `FAMILIES`."""
    config: Config
    """Of the model that was saved."""
    classes: ClassNames
    """Names by label."""
    preprocess: Preprocess
    """Of the images it was trained on."""
    category_ids: CategoryIds = None
    """Of each label in its data's annotations; None where nothing says them."""
    extra: Dict[str, Any] = field(default_factory=dict)
    """What its maker added: a recipe, a fingerprint of the data."""


def make_record(
    model: Detector,
    class_names: Optional[Sequence[Optional[str]]] = None,
    extra: Optional[Mapping[str, Any]] = None,
    *,
    preprocess: Optional[Preprocess] = None,
    category_ids: Optional[Sequence[Optional[int]]] = None,
) -> Dict[str, Any]:
    """What a checkpoint has under "detectors", so that `detectors.load` makes a model of it.

    Args:
        model: with its weights' normalisation.
        class_names: by label; `model.config.num_classes` of them.
        extra: more to keep, by name: numbers, texts, lists and dicts of them.
        preprocess: of the images; by default what the model's mean and std mean.
        category_ids: by label, as the data's annotations have them; None for an output without a
            class. Without them, label + 1 stands for them where COCO's results are written.

    Raises:
        ValueError: a wrong number of names, ids that `checked_ids` refuses, another normalisation,
            a key of ours in `extra`.
    """
    config = model.config
    if class_names is not None and len(class_names) != config.num_classes:
        raise ValueError(
            f"classes has {len(class_names)} names, the model {config.num_classes} classes"
        )
    preprocess = preprocess or from_statistics(config.mean, config.std)
    if (preprocess.mean, preprocess.std) != (config.mean, config.std):
        raise ValueError(
            f"preprocess {preprocess.name} has mean {preprocess.mean}, std {preprocess.std}; the"
            f" model normalises with {config.mean}, {config.std}: configure() it first"
        )
    ids = checked_ids(category_ids, class_names, config.num_classes)
    taken = [key for key in extra or () if key in OWN_KEYS]
    if taken:
        raise ValueError(f"extra must not have the record's own keys, got {taken}")
    return {
        "version": VERSION,
        "family": family_of(config),
        "model": config.name,
        "config": _plain(asdict(config)),
        "classes": None if class_names is None else list(class_names),
        "category_ids": None if ids is None else list(ids),
        "preprocess": preprocess.to_record(),
        **(extra or {}),
    }


def save(
    model: Detector,
    path: Union[str, Path],
    *,
    classes: Optional[Sequence[Optional[str]]] = None,
    category_ids: Optional[Sequence[Optional[int]]] = None,
    preprocess: Optional[Preprocess] = None,
    extra: Optional[Mapping[str, Any]] = None,
    layout: str = "detectors",
) -> Path:
    """Write a model's weights, complete or not at all.

    Args:
        model: with its batch norms, not folded.
        path: `.pt`, `.pth` or `.ckpt` for torch's format, `.safetensors` for that one.
        classes: names by label; `model.config.num_classes` of them.
        category_ids: by label, as `make_record` takes them.
        preprocess: of the images; by default what the model's mean and std mean.
        extra: more to keep in the record, as `make_record` takes it.
        layout: "detectors", or "effdet" for a bare state dict that effdet's models load.

    Returns:
        The path.

    Raises:
        ValueError: a folded model, a wrong number of names or ids, an unknown suffix or layout.
    """
    path = Path(path)
    config = model.config
    state = {name: value.detach().cpu() for name, value in model.network.state_dict().items()}
    if FAMILIES[family_of(config)].norm not in state:
        raise ValueError(f"{config.name} is folded: save it before fold_batch_norm")
    record = make_record(model, classes, extra, preprocess=preprocess, category_ids=category_ids)
    if path.suffix not in (".pt", ".pth", ".ckpt", ".safetensors"):
        raise ValueError(
            f"checkpoint must end in .pt, .pth, .ckpt or .safetensors, got {path.name}"
        )
    if layout not in ("detectors", "effdet"):
        raise ValueError(f"layout must be 'detectors' or 'effdet', got {layout!r}")
    if layout == "effdet":
        if not isinstance(config, EfficientDetConfig):
            raise ValueError(f"layout 'effdet' is EfficientDet's; the model is {config.name}")
        state, record = to_effdet(state, config), {}
    path.parent.mkdir(parents=True, exist_ok=True)
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
        family, classes = record.get("family", "efficientdet"), record["classes"]
        if family not in FAMILIES:
            raise ValueError(f"it is of the family '{family}', known are {list(FAMILIES)}")
        config = _restore(FAMILIES[family].config, record["config"], "config")
        return Record(
            family,
            config,
            None if classes is None else tuple(classes),
            from_record(record["preprocess"]),
            read_ids(record.get("category_ids"), classes, config.num_classes),
            {key: value for key, value in record.items() if key not in OWN_KEYS},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its 'detectors' record is not usable: {error}") from None


def _plain(value: Any) -> Any:
    """Tuples as lists, at any depth."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _restore(kind: Type[T], record: Mapping[str, Any], name: str) -> T:
    """The inverse of `asdict` and `_plain`: dataclasses and tuples restored."""
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if not set(record) <= known:
        raise ValueError(f"{name} has unknown fields {sorted(set(record) - known)}")
    values: Dict[str, Any] = {}
    for key, value in record.items():
        if is_dataclass(hints[key]):
            value = _restore(hints[key], value, f"{name}.{key}")
        values[key] = _tuples(value)
    return kind(**values)


def _tuples(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value
