"""Fills a Faster R-CNN, or its backbone, with weights of any origin, completely or not at all.

Normalisation, order of colours and the place of the stride go together and no tensor tells them:
they are bound to the origin. Normalisation is set in the model; a model with its strides elsewhere
is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from torch import Tensor

from detectors.models.faster_rcnn.config import FasterRCNNConfig
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.weights.caffe_resnet import from_detectron2, from_msra, swap_colours
from detectors.weights.download import file_sha256
from detectors.weights.numpy_pickle import read_numpy_pickle
from detectors.weights.preprocess import IMAGENET, Preprocess
from detectors.weights.report import LoadReport
from detectors.weights.tensor_file import read_tensor_file

__all__ = ["load_faster_rcnn"]

COUNTER = "num_batches_tracked"
MSRA = Preprocess("msra", (123.675, 116.28, 103.53), (1.0, 1.0, 1.0), (124, 116, 104))
CAFFE = Preprocess("caffe", (122.7717, 115.9465, 102.9801), (1.0, 1.0, 1.0), (123, 116, 103))
WRAPPERS = ("state_dict", "model")  # keys that training loops put a state dict under
PREFIXES = ("module.", "backbone.")


class Origin(NamedTuple):
    """What goes with weights."""

    preprocess: Preprocess
    stride_in_1x1: bool


ORIGINS: Dict[str, Origin] = {
    "torchvision": Origin(IMAGENET, False),
    "timm": Origin(IMAGENET, False),
    "caffe": Origin(CAFFE, True),
    "msra": Origin(MSRA, True),
    "detectron2": Origin(MSRA, True),
}


def load_faster_rcnn(
    model: FasterRCNN, path: Union[str, Path], *, origin: Optional[str] = None
) -> LoadReport:
    """Fill a model, or the backbone alone where the file is a classifier's.

    Args:
        model: not folded; changed in place, and only if everything fits.
        path: a classifier of torchvision, timm or Caffe in torchvision's names (`.pth`,
            `.safetensors`), or a `.pkl` of MSRA's classifier or detectron2's R-C4 detector.
        origin: one of "torchvision", "timm", "caffe", where a file in torchvision's names cannot
            tell; None = "caffe" if its name has that word, else "torchvision".

    Returns:
        What was used, converted and kept; `kept` names the detector's tensors that a classifier
        lacks.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: damaged, unsafe, of unknown origin, or it does not fit the model.
    """
    path = Path(path)
    tensors = _read(path)
    origin = _origin(tensors, path, origin)
    state, skipped = _convert(tensors, origin)
    config = model.config
    _require_same_form(config, origin, path)
    own = model.network.state_dict()
    scope = "" if origin == "detectron2" else "backbone."
    _require_same_tensors(
        state, {k: v for k, v in own.items() if k.startswith(scope)}, path, config
    )

    preprocess = ORIGINS[origin].preprocess
    taken = {name: value for name, value in state.items() if name in own}
    model.network.load_state_dict({**own, **taken})
    model.configure(mean=preprocess.mean, std=preprocess.std)
    kept = [name for name in own if name not in state and not name.endswith(COUNTER)]
    converted = [f"names of {origin}"] if origin in ("msra", "detectron2") else []
    if preprocess is not IMAGENET:
        converted.append("first convolution from BGR to RGB")
    return LoadReport(
        path=path,
        origin=origin,
        model=config.name,
        sha256=file_sha256(path),
        num_tensors=len(state),
        num_values=sum(value.numel() for value in state.values()),
        kept=tuple(kept),
        skipped=tuple(skipped),
        averaged="the file's only one",
        converted=tuple(converted),
        preprocess=preprocess,
        anchor_aspects=config.anchors.version,
        class_names=None,
        notes=(f"{len(kept)} tensors of the detector are not in a classifier",) if kept else (),
    )


def _read(path: Path) -> Dict[str, Tensor]:
    if path.suffix == ".pkl":
        return read_numpy_pickle(path)
    content = read_tensor_file(path).content
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            content = content[key]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors


def _origin(tensors: Mapping[str, Tensor], path: Path, asked: Optional[str]) -> str:
    """Whose names these are, and who trained them."""
    if "backbone.stem.conv1.weight" in tensors:
        found: Tuple[str, ...] = ("detectron2",)
    elif "conv1_w" in tensors:
        found = ("msra",)
    elif "layer1.0.conv1.weight" in tensors and "conv1.weight" in tensors:
        found = ("caffe",) if asked is None and "caffe" in path.name.lower() else ()
        found += ("torchvision", "timm", "caffe")
    else:
        raise ValueError(
            f"{path}: unknown origin; its {len(tensors)} tensors are {sorted(tensors)[:3]} …; known"
            " are ResNets of torchvision, timm, Caffe and MSRA, and detectron2's R-C4 detectors"
        )
    if asked is None:
        return found[0]
    if asked not in found:
        raise ValueError(f"{path}: origin must be one of {list(found)}, got '{asked}'")
    return asked


def _convert(tensors: Mapping[str, Tensor], origin: str) -> Tuple[Dict[str, Tensor], List[str]]:
    """The tensors under our network's names, and the names of those that are left out."""
    if origin == "detectron2":
        skipped = [name for name in tensors if "anchor_generator" in name or "pixel_" in name]
        return from_detectron2(tensors), skipped
    if origin == "msra":
        skipped = [name for name in tensors if name.startswith(("fc1000", "pred"))]
        state = from_msra(tensors)
    else:
        skipped = [name for name in tensors if name.startswith("fc.")]
        state = {name: value for name, value in tensors.items() if name not in skipped}
        if origin == "caffe":
            state["conv1.weight"] = swap_colours(state["conv1.weight"])
    return {f"backbone.{name}": value for name, value in state.items()}, skipped


def _require_same_form(config: FasterRCNNConfig, origin: str, path: Path) -> None:
    """Raise unless the model has its strides, and its criterion, where the weights expect them."""
    wanted = ORIGINS[origin].stride_in_1x1
    if config.stride_in_1x1 != wanted:
        raise ValueError(
            f"{path} ({origin}) was trained with the stride of bottlenecks in the"
            f" {'1x1' if wanted else '3x3'} convolution; the model has it in the"
            f" {'3x3' if wanted else '1x1'}: build it with stride_in_1x1={wanted}"
        )
    if origin == "detectron2" and config.variant != "detectron2":
        raise ValueError(
            f"{path} is detectron2's detector; the model has the anchors and regions of"
            f" '{config.variant}': build it with variant='detectron2'"
        )


def _require_same_tensors(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, config: FasterRCNNConfig
) -> None:
    """Raise unless the state has exactly these tensors, finite and of these shapes."""
    problems = {
        "tensors missing": [n for n in own if n not in state and not n.endswith(COUNTER)],
        "tensors unknown to the model": [
            n for n in state if n not in own and not n.endswith(COUNTER)
        ],
        "of another shape": [
            f"{n} {tuple(v.shape)}, the model has {tuple(own[n].shape)}"
            for n, v in state.items()
            if n in own and v.shape != own[n].shape
        ],
        "with inf or nan": [n for n, v in state.items() if not v.isfinite().all()],
    }
    lines = [
        f"{len(found)} {what}: {', '.join(found[:2])}{', …' if len(found) > 2 else ''}"
        for what, found in problems.items()
        if found
    ]
    if lines:
        raise ValueError(f"{path} does not fit {config.name}:\n  " + "\n  ".join(lines))
