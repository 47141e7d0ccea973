"""Fixtures of the detectors' tests: real images and peers with equal, lively weights."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest
import torch
from torch import Tensor, nn

from detectors import efficientdet
from detectors.models.efficientdet.inference import EfficientDet

Pair = Tuple[nn.Module, EfficientDet]


@pytest.fixture(scope="session")
def real_images(shared_data: Path) -> Callable[[int, int], Tensor]:
    """(count, size) -> (count, 3, size, size) uint8: COCO pictures, squeezed into a square."""
    image = pytest.importorskip("PIL.Image")
    numpy = pytest.importorskip("numpy")

    def load(count: int, size: int) -> Tensor:
        paths = sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:count]
        pictures = [image.open(path).convert("RGB").resize((size, size)) for path in paths]
        stack = numpy.stack([numpy.asarray(picture) for picture in pictures])
        return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()

    return load


def enliven(model: nn.Module, images: Tensor) -> None:
    """Random weights under which signals neither die nor explode, whatever the depth.

    Batch norms learn their statistics from `images`, then get random scales and shifts; the last
    convolutions are scaled until class logits have a standard deviation of 2, box outputs of 0.5.
    Class logits are then shifted to a maximum of 4: over 17 the sigmoid is 1.0 and order is lost.
    """
    generator = torch.Generator().manual_seed(7)

    def uniform(x: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(x.shape, generator=generator) * (high - low) + low

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for name, parameter in model.named_parameters():
        if parameter.dim() == 4:
            fan_in = parameter[0].numel()
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = noise * (2 / fan_in) ** 0.5
        elif name.endswith("edge_weights"):
            parameter.data = uniform(parameter, -0.2, 1.5)  # some negative: relu matters
        else:
            parameter.data = uniform(parameter, -0.2, 0.2)
    for norm in norms:
        norm.weight.data = uniform(norm.weight, 0.6, 1.4)
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(images)
        for norm in norms:
            norm.eval()
            assert norm.running_mean is not None
            assert norm.running_var is not None
            spread = norm.running_var.sqrt()
            norm.running_mean += uniform(spread, -0.1, 0.1) * spread
            norm.running_var *= uniform(spread, 0.8, 1.2)
        for outputs, head, target in zip(model(images), ("class_net", "box_net"), (2.0, 0.5)):
            predict = model.get_submodule(f"{head}.predict.conv_pw")
            assert isinstance(predict, nn.Conv2d)
            assert predict.bias is not None
            flat = torch.cat([level.flatten() for level in outputs])
            factor = target / flat.std()
            predict.weight *= factor
            predict.bias *= factor
            if head == "class_net":
                predict.bias += 4 - factor * flat.max()


def installed(name: str) -> Any:
    """A package; tests that need it skip where it is absent."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts functions on import
        return importlib.import_module(name)


@pytest.fixture(scope="session")
def timm() -> Any:
    """The package, where it is installed."""
    return installed("timm")


@pytest.fixture(scope="session")
def effdet() -> Any:
    """The package, where it is installed."""
    return installed("effdet")


@pytest.fixture(scope="session")
def effdet_pair(effdet: Any, real_images: Callable[[int, int], Tensor]) -> Callable[[str], Pair]:
    """Name -> (effdet's network, our model) with equal weights."""
    weights: Any = importlib.import_module("detectors.weights.effdet")
    pairs: Dict[str, Pair] = {}

    def build(name: str) -> Pair:
        if name in pairs:
            return pairs[name]
        config = effdet.get_efficientdet_config(f"tf_efficientdet_{name}")
        peer: nn.Module = effdet.EfficientDet(config, pretrained_backbone=False).eval()
        model = efficientdet(name, anchor_aspects="rounded")
        count = 2 if name == "d0" else 1  # the images that the tests then show it
        enliven(peer, model.normalise(real_images(count, model.config.image_size[0])))
        state = peer.state_dict()
        ours = weights.from_effdet(state, model.network.state_dict(), model.config)
        model.network.load_state_dict(ours)
        pairs[name] = (peer, model)
        return pairs[name]

    return build
