"""Opens any weights there are and says whose they are, by the names of their tensors.

Nothing here knows a model of ours: the tensors keep the names of their origin.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from torch import Tensor

from detectors.weights import tensor_bundle
from detectors.weights.automl import choose_copies
from detectors.weights.checkpoint import Record, find, read_record
from detectors.weights.download import file_sha256
from detectors.weights.numpy_pickle import read_numpy_pickle
from detectors.weights.tensor_file import read_tensor_file

AVERAGED = "state_dict_ema"
"""Of a training's checkpoint: the moving average of its weights, complete; timm's and effdet's name
for it, and ours.
"""
EMA_KEYS = (AVERAGED, "model_ema")
RAW_KEYS = ("state_dict", "model")
# of DataParallel; effdet's benches and Lightning; our detectors; a detector's features alone
PREFIXES = ("module.", "model.", "network.", "backbone.")
TARBALLS = (".tar.gz", ".tgz", ".tar")

SIGNS = {
    "class_head.predict.pointwise.weight": ("detectors", "efficientdet"),
    "class_net.predict.conv_pw.weight": ("effdet", "efficientdet"),
    "class_net/class-predict/pointwise_kernel": ("automl", "efficientdet"),
    "box_head.class_logits.weight": ("detectors", "faster_rcnn"),
    "backbone.stem.conv1.weight": ("detectron2", "faster_rcnn"),
    "conv1_w": ("msra", "faster_rcnn"),
}
"""A tensor that all files of an origin have -> origin, family."""
STEMS = ("conv_stem.weight", "stem.conv.weight", "/stem/conv2d/kernel")  # of EfficientNets
TORCHVISION_EFFICIENTNET = ("features.0.0.weight", "features.1.0.block.0.0.weight")
RESNETS = ("torchvision", "timm", "caffe")
"""Origins of classifiers in torchvision's names, which no tensor tells apart."""
CLASSIFIERS = ("imagenet", "msra", *RESNETS)
"""Origins without a detection head."""
ONLY_COPY = "the file's only one"


@dataclass(frozen=True)
class Source:
    """Weights as their origin wrote them."""

    path: Path
    """The file, or the prefix of a TensorFlow checkpoint."""
    origin: str
    """`effdet`, `automl`, `detectron2`, `detectors`; or one of `CLASSIFIERS`, where `imagenet` is
    an EfficientNet, the others are ResNets.
    """
    family: str
    """Of the detector that it is, or whose features it has."""
    tensors: Dict[str, Tensor]
    """By the origin's names, without wrappers' prefixes and averages' suffixes."""
    sha256: str
    """Of the file; of index and data in turn for a TensorFlow checkpoint."""
    averaged: str
    """Which copy of the weights this is, in words."""
    skipped: Tuple[str, ...] = ()
    """What else the file holds."""
    record: Optional[Record] = None
    """Our own checkpoints' record."""


def open_source(path: Path, ema: bool, origin: Optional[str] = None) -> Source:
    """Read weights of any origin.

    Args:
        path: a file, a run folder, a TensorFlow checkpoint (folder, prefix, index) or its tarball.
        ema: take the moving average where there is one.
        origin: one of `RESNETS`, for a classifier in torchvision's names; None = "caffe" if its
            file's name has that word, else "torchvision".

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: damaged, unsafe, or of unknown origin.
    """
    path = find(path)
    if path.name.endswith(TARBALLS):
        with tempfile.TemporaryDirectory() as folder:
            prefix = _unpack(path, Path(folder))
            return _open_bundle(prefix, ema, path, file_sha256(path))
    prefix_or_none = tensor_bundle.find_checkpoint(path)
    if prefix_or_none is not None:
        return _open_bundle(prefix_or_none, ema, prefix_or_none, _bundle_sha256(prefix_or_none))
    if path.is_dir():
        raise ValueError(f"{path} is a folder without a checkpoint (best.ckpt, last.ckpt, *.index)")
    if path.suffix == ".pkl":
        tensors = read_numpy_pickle(path)
        found, family = _origin(tensors, path, origin)
        return Source(path, found, family, tensors, file_sha256(path), ONLY_COPY)
    return _open_file(path, ema, origin)


def _open_file(path: Path, ema: bool, asked: Optional[str]) -> Source:
    """A torch or safetensors file."""
    content, metadata = read_tensor_file(path)
    state, averaged, used = _choose_state(content, ema)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    skipped = [name for name in tensors if name.endswith("anchors.boxes")]  # effdet's benches
    for name in skipped:
        del tensors[name]
    tensors = _strip_prefixes(tensors)
    value = content.get("detectors") or metadata.get("detectors")
    if value is None:
        origin, family = _origin(tensors, path, asked)
        record = None
    else:
        record = read_record(value, path)
        origin, family = "detectors", record.family
        skipped += [key for key in content if key not in ("detectors", used)]  # Lightning's
    sha256 = file_sha256(path)
    return Source(path, origin, family, tensors, sha256, averaged, tuple(skipped), record)


def _open_bundle(prefix: Path, ema: bool, path: Path, sha256: str) -> Source:
    """A TensorFlow checkpoint."""
    index = tensor_bundle.read_index(prefix)
    if any(name.endswith("/.ATTRIBUTES/VARIABLE_VALUE") for name in index):
        raise ValueError(
            f"{path} is an object-based checkpoint (Keras); AutoML's published ones are name-based:"
            " write one with tf.compat.v1.train.Saver over the model's variables"
        )
    copies = choose_copies(index, ema)
    names = {name: plain for plain, name in copies.tensors.items()}
    read = tensor_bundle.read_checkpoint(prefix, names.__contains__)
    tensors = {names[name]: value for name, value in read.items()}
    averaged = f"moving average (EMA) for {copies.num_averaged} of {len(tensors)} variables"
    if not copies.num_averaged:
        held = any(name.endswith("/ExponentialMovingAverage") for name in index)
        averaged = "raw weights" + ("" if held else "; the file holds no moving average")
    origin, family = _origin(tensors, path)
    return Source(path, origin, family, tensors, sha256, averaged, tuple(copies.skipped))


def _choose_state(content: Dict[str, Any], ema: bool) -> Tuple[Mapping[str, Any], str, str]:
    """The state dict inside a training checkpoint, the averaged one first if `ema`; which it is, in
    words; its key.
    """
    for key in EMA_KEYS + RAW_KEYS if ema else RAW_KEYS + EMA_KEYS:
        if isinstance(content.get(key), dict):
            words = f"moving average (EMA), from '{key}'" if key in EMA_KEYS else f"'{key}'"
            return content[key], words, key
    return content, ONLY_COPY, ""


def _strip_prefixes(tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Without the prefixes that wrappers put before every name."""
    for prefix in PREFIXES * 2:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors


def _origin(
    tensors: Mapping[str, Tensor], path: Path, asked: Optional[str] = None
) -> Tuple[str, str]:
    """Whose names these are, and of which family."""
    for sign, found in SIGNS.items():
        if sign in tensors:
            return found
    if "conv1.weight" in tensors and "layer1.0.conv1.weight" in tensors:
        if asked is not None and asked not in RESNETS:
            raise ValueError(f"{path}: origin must be one of {list(RESNETS)}, got '{asked}'")
        return asked or ("caffe" if "caffe" in path.name.lower() else "torchvision"), "faster_rcnn"
    if all(name in tensors for name in TORCHVISION_EFFICIENTNET):
        raise ValueError(
            f"{path} is torchvision's EfficientNet, which pads alike on all sides: another network"
            " than EfficientDet's backbone; take timm's tf_efficientnet_b0 … b7, or"
            " model.weights=imagenet in a recipe"
        )
    if any(name.endswith(STEMS) for name in tensors):
        return "imagenet", "efficientdet"
    raise ValueError(
        f"{path}: unknown origin; its {len(tensors)} tensors are {sorted(tensors)[:3]} …; known are"
        " effdet's EfficientDet, AutoML's TensorFlow checkpoints, detectron2's R-C4 detectors,"
        " ResNets of torchvision, timm, Caffe and MSRA, timm's tf_efficientnet_*, and our own"
    )


def _unpack(path: Path, folder: Path) -> Path:
    """The checkpoint files of a tarball, each as a plain file directly in `folder`.

    Only regular files with a checkpoint's names are written, under their last name: a path that
    climbs out of the folder, a link or a device in the archive has no effect.
    """
    names: List[str] = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                wanted = name == "checkpoint" or name.endswith(".index") or ".data-" in name
                # macOS puts a `._x` beside each x
                if member.isfile() and wanted and not name.startswith("."):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    with open(folder / name, "wb") as file:
                        shutil.copyfileobj(stream, file)
                names.append(member.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged or no tarball: {error}") from None
    prefix = tensor_bundle.find_checkpoint(folder)
    if prefix is None:
        raise ValueError(f"{path} holds no TensorFlow checkpoint (*.index); it has {names[:5]}")
    return prefix


def _bundle_sha256(prefix: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(prefix.parent.glob(f"{prefix.name}.*")):
        if path.name.endswith(".index") or ".data-" in path.name:
            digest.update(path.read_bytes())
    return digest.hexdigest()
