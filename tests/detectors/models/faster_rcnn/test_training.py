"""The training step: four losses, static shapes, keys, sharing, learning."""

from __future__ import annotations

from typing import Callable, Tuple

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from detectors.models.faster_rcnn.config import CONFIGS
from detectors.models.faster_rcnn.inference import FasterRCNN
from detectors.models.faster_rcnn.training import LOSSES

Batch = Tuple[Tensor, Tensor, Tensor, Tensor]
Detector = Callable[..., FasterRCNN]


@pytest.mark.parametrize("variant", list(CONFIGS))
def test_every_trained_parameter_gets_a_gradient(
    variant: str, detector: Detector, batch: Batch
) -> None:
    training = detector(variant).for_training()
    loss, losses = training(*batch)
    assert loss.shape == ()
    assert losses.shape == (len(LOSSES),)
    torch.testing.assert_close(loss, losses.sum())
    assert (losses > 0).all()
    loss.backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("variant", list(CONFIGS))
def test_shapes_are_fixed_by_the_configuration(variant: str, detector: Detector) -> None:
    with FakeTensorMode():  # raises if a shape or branch depends on values
        training = detector(variant, depth=50, norm="frozen").for_training()
        loss, losses = training(
            torch.zeros(2, 3, 96, 128, dtype=torch.uint8),
            torch.zeros(2, 7, 4),
            torch.zeros(2, 7, dtype=torch.int32),
            torch.zeros(2, dtype=torch.int32),
        )
        loss.backward()
    assert loss.shape == ()
    assert losses.shape == (4,)


def test_images_without_boxes_train(detector: Detector, batch: Batch) -> None:
    images, boxes, labels, keys = batch
    training = detector().for_training()
    loss, losses = training(images, boxes * 0, torch.full_like(labels, -1), keys)
    loss.backward()
    assert losses[1] == losses[3] == 0  # no boxes to regress to
    assert losses[0] > 0
    assert losses[2] > 0
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_an_images_samples_depend_on_its_key_alone(detector: Detector, batch: Batch) -> None:
    training = detector("seed", norm="frozen").for_training()
    with torch.no_grad():
        both = training(*batch)[1]
        swapped = training(*(value.flip(0) for value in batch))[1]
        alone = [training(*(value[i : i + 1] for value in batch))[1] for i in range(2)]
        other = training(*batch[:3], batch[3] + 1)[1]
    torch.testing.assert_close(swapped, both)
    torch.testing.assert_close(torch.stack(alone).mean(dim=0), both)  # all samples were to be had
    assert (other - both).abs().max() > 1e-4


def test_loss_weights_weigh(detector: Detector, batch: Batch) -> None:
    plain = detector(norm="frozen").for_training()
    weighed = detector(norm="frozen", loss_weights=(1.0, 0.0, 2.0, 1.0)).for_training()
    with torch.no_grad():
        expected = plain(*batch)[1] * torch.tensor([1.0, 0.0, 2.0, 1.0])
        loss, losses = weighed(*batch)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(loss, expected.sum())


def test_training_shares_parameters_and_statistics(detector: Detector, batch: Batch) -> None:
    model = detector()
    training = model.for_training()
    assert training.training
    assert training.network is model.network
    name = "backbone.layer2.0.bn1.running_mean"
    before = model.network.state_dict()[name].clone()
    training(*batch)
    assert not torch.equal(model.network.state_dict()[name], before)


def test_steps_on_one_batch_teach_the_rpn(detector: Detector, batch: Batch) -> None:
    training = detector("seed").for_training()
    optimizer = torch.optim.SGD(training.parameters(), lr=0.02)
    history = []
    for _ in range(4):  # the same anchors each time: their keys are the same
        optimizer.zero_grad()
        loss, losses = training(*batch)
        loss.backward()
        optimizer.step()
        history.append(float(losses[0].detach()))
    assert history[0] > history[1] > history[2] > history[3], history
    assert history[3] < 0.8 * history[0], history
