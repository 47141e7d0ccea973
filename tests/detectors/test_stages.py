"""Detectors split into stages compute what they compute in one go."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import pytest
import torch
from torch import Tensor, nn

from detectors import efficientdet
from detectors.checkpoints import apply_checkpoints
from detectors.commands.train.model import build_model
from detectors.experiment.recipe import load_recipe, resolve
from detectors.models.efficientdet.heads import PredictionHead
from detectors.splits import apply_splits
from poplar_ops.runtime import IS_HOST, poptorch

pytestmark = pytest.mark.skipif(not IS_HOST, reason="about stages on a host")
if IS_HOST:
    from poptorch_host import _state
    from poptorch_host.capture.capture import capture
    from poptorch_host.capture.loss import LossCatcher
    from poptorch_host.engine.engine import Layout, Replica
    from poptorch_host.graph.exported import NEEDS
    from poptorch_host.graph.parts import Part, split
    from poptorch_host.tensors.arguments import bind_arguments
    from poptorch_host.tensors.structure import flatten

    HAS_EXPORT = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= NEEDS
needs_export = pytest.mark.skipif(
    not (IS_HOST and HAS_EXPORT), reason="stages need a newer torch (torch.export)"
)

Cut = Tuple["Replica", "Replica", List["Part"], "LossCatcher | None"]


def cut(model: nn.Module, inputs: Sequence[Tensor], *, training: bool) -> Cut:
    """The model twice, the parts around the second, and what catches the first's loss."""
    options = poptorch.Options().deviceIterations(1 if training else 4)
    options.Training.gradientAccumulation(16 if training else 1)
    arguments = bind_arguments(model.forward, inputs, {})
    program = capture(model, arguments, options, report_only=False, training=training)
    layout = Layout(torch.device("cpu"), channels_last=True)
    whole, pieces = [Replica(model, program, layout, {} if training else None) for _ in range(2)]
    placed = [layout.place(tensor) for tensor in inputs]
    parts = split(
        pieces.module,
        program,
        bind_arguments(model.forward, placed, {}),
        training=training,
        recompute=training,
    )
    return whole, pieces, parts, None if program.loss is None else LossCatcher(program.loss)


@needs_export
@pytest.mark.slow
def test_faster_rcnn_learns_the_same_in_four_stages() -> None:
    torch.manual_seed(0)
    recipe = resolve(load_recipe("generated"))
    detector, _ = build_model(recipe, ("circle", "square", "triangle"), checkpoint=None, quiet=True)
    model = apply_splits(detector.for_training(), recipe.pipeline.splits).train()
    boxes, labels = torch.zeros(1, 4, 4), torch.full((1, 4), -1, dtype=torch.int32)
    boxes[0, 0], labels[0, 0] = torch.tensor([20.0, 20.0, 70.0, 70.0]), 1
    inputs = [
        torch.randint(0, 255, (1, 3, 192, 192), dtype=torch.uint8),
        boxes,
        labels,
        torch.tensor([3], dtype=torch.int32),  # keys of the sampling
    ]
    learn_the_same(model, inputs, 4)


def learn_the_same(model: nn.Module, inputs: List[Tensor], stages: int) -> None:
    inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
    whole, pieces, parts, catcher = cut(model, inputs, training=True)
    assert len(parts) == stages
    assert catcher is not None

    with _state.running(losses=catcher):
        expected = flatten(whole.module(*inputs))
    assert catcher.loss is not None
    catcher.loss.backward()  # type: ignore[no-untyped-call]
    tensors = list(inputs)
    for part in parts:
        with _state.running():
            tensors = list(part.module(*tensors))
    with _state.running():
        tensors[-1].backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(tensors, [*expected, catcher.loss], rtol=1e-6, atol=1e-7)
    whole.restore()
    for name, weight in whole.weights.items():
        same = pieces.weights[name]
        torch.testing.assert_close(same, weight, rtol=1e-6, atol=1e-7)
        assert (same.grad is None) == (weight.grad is None), name
        if weight.grad is not None:
            torch.testing.assert_close(same.grad, weight.grad, rtol=1e-5, atol=1e-7)


class Headed(nn.Module):
    """Two levels and EfficientDet's head on them; images, then as a detector's training takes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Levels(), Loss())

    def forward(self, images: Tensor) -> Tensor:
        return poptorch.identity_loss(self.network(images), reduction="sum")


class Levels(nn.Module):
    def forward(self, x: Tensor) -> List[Tensor]:
        return [x, x[:, :, ::2, ::2]]


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = PredictionHead(8, 4, 9, 3, 2)

    def forward(self, features: List[Tensor]) -> Tensor:
        return torch.cat(self.head(features), 1).square().mean()


@needs_export
def test_a_head_learns_the_same_cut_between_its_convolutions_with_checkpoints() -> None:
    torch.manual_seed(0)
    model = apply_splits(Headed(), ["network.2.head.convs.2"])
    apply_checkpoints(model, ["network.2.head.convs.1", "network.2.head.predict"])
    learn_the_same(model.train(), [torch.rand(2, 3, 16, 16)], 2)


@needs_export
@pytest.mark.slow
def test_efficientdet_detects_the_same_in_two_stages() -> None:
    torch.manual_seed(0)
    model = efficientdet("efficientdet_d0", num_classes=5, image_size=(128, 128)).eval()
    apply_splits(model, ["class_head"])
    images = torch.randint(0, 255, (1, 3, 128, 128), dtype=torch.uint8)
    whole, _, parts, _ = cut(model, [images], training=False)
    assert len(parts) == 2
    with torch.inference_mode(), _state.running():
        placed = images.contiguous(memory_format=torch.channels_last)
        expected = flatten(whole.module(placed))
        tensors = [placed]
        for part in parts:
            tensors = list(part.module(*tensors))
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0)
