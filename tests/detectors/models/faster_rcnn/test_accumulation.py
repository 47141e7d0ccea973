"""One training call of 16 micro-batches is one plain step on the mean of their losses.

B = 1 picture in each micro-batch.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence, Tuple

import pytest
import torch
from torch import Tensor

from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.splits import apply_splits
from poplar_ops.runtime import IS_HOST, poptorch

pytestmark = pytest.mark.skipif(not IS_HOST, reason="an IPU sums in another order")

Detector = Callable[..., FasterRCNN]
Batch = Tuple[Tensor, Tensor, Tensor, Tensor]

ACCUMULATION = 16
SIZE = (96, 128)  # of the small detectors
RATE = 0.1
SPLITS = ["rpn", "backbone.layer4.0", "backbone.layer4.1"]  # of voc0712_mixed


def pictures(count: int) -> Batch:
    """Noise with 0, 1, 2, 0, 1, ... objects; keys 0, 1, 2, ..."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)
    corners = torch.rand(count, 2, 2, generator=generator) * 40
    sides = 20 + torch.rand(count, 2, 2, generator=generator) * 30
    labels = torch.randint(0, 5, (count, 2), dtype=torch.int32, generator=generator)
    is_box = torch.arange(2) < (torch.arange(count) % 3)[:, None]  # (count, 2)
    boxes = torch.cat([corners, corners + sides], dim=-1) * is_box[..., None]
    labels = torch.where(is_box, labels, torch.full_like(labels, -1))
    return images, boxes, labels, torch.arange(count, dtype=torch.int32)


def plain_step(model: FasterRCNN, batch: Sequence[Tensor]) -> Tensor:
    """One step of torch's SGD on the mean of the micro-batches' losses: (count, 4) losses."""
    training = model.for_training()
    optimizer = torch.optim.SGD(training.parameters(), lr=RATE)
    found: List[Tensor] = []
    for row in range(len(batch[0])):
        loss, losses = training(*(value[row : row + 1] for value in batch))
        (loss / len(batch[0])).backward()
        found.append(losses.detach())
    optimizer.step()
    return torch.stack(found)


def accumulated_step(model: FasterRCNN, batch: Sequence[Tensor], splits: Sequence[str]) -> Tensor:
    """The same as one call of an executor."""
    training = apply_splits(model.for_training(), splits)
    options = poptorch.Options().outputMode(poptorch.OutputMode.All)
    options.Training.gradientAccumulation(len(batch[0]))
    options.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Mean)
    optimizer = poptorch.optim.SGD(training.parameters(), lr=RATE)
    _, losses = poptorch.trainingModel(training, options, optimizer=optimizer)(*batch)
    result: Tensor = losses.reshape(len(batch[0]), -1)
    return result


def weights(model: FasterRCNN) -> Dict[str, Tensor]:
    """Copies of everything trained or counted."""
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("variant", "norm", "splits"),
    [("seed", "frozen", SPLITS), ("detectron2", "frozen", []), ("seed", "batch", [])],
)
def test_sixteen_micro_batches_are_one_step_on_the_mean_of_their_losses(
    variant: str, norm: str, splits: List[str], detector: Detector
) -> None:
    ours, plain = detector(variant, norm=norm), detector(variant, norm=norm)
    batch = pictures(ACCUMULATION)
    before = weights(plain)
    losses = accumulated_step(ours, batch, splits)
    if norm == "batch":
        # Trained norms blow a sum in another order up to some percent of small gradients, and the
        # executor keeps their pictures with channels last.
        plain.to(memory_format=torch.channels_last)
        batch = (batch[0].contiguous(memory_format=torch.channels_last), *batch[1:])
    expected = plain_step(plain, batch)
    # Samples that differed in one row would show in the first digits.
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    assert (expected[::3, 1] == 0).all()  # no box, no box loss
    assert (expected[1::3, 1] > 0).all()
    poptorch.removeBlocks(ours)
    stepped = weights(ours)
    for name, value in weights(plain).items():
        if value.is_floating_point():  # not num_batches_tracked
            torch.testing.assert_close(stepped[name], value, rtol=1e-5, atol=1e-5, msg=name)
    moved = [name for name, value in before.items() if not torch.equal(value, stepped[name])]
    assert {name for name, _ in plain.named_parameters()} <= set(moved)


def test_other_keys_draw_other_samples_in_the_executor(detector: Detector) -> None:
    images, boxes, labels, keys = pictures(2)
    batch = (images, boxes, labels, keys)
    first = accumulated_step(detector("seed"), batch, [])
    other = accumulated_step(detector("seed"), (images, boxes, labels, keys + 100), [])
    assert not torch.equal(first, other)
    assert torch.equal(first, accumulated_step(detector("seed"), batch, []))
