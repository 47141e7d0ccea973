"""EfficientDet's training step: two losses, static shapes, keys, freezing, learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Tuple

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from detectors import efficientdet
from detectors.folding import fold_batch_norm
from detectors.models.efficientdet.config import CONFIGS, LossConfig
from detectors.models.efficientdet.criterion import assign_targets, box_loss, class_loss
from detectors.models.efficientdet.inference import EfficientDet, build_efficientdet
from detectors.postprocess import PostprocessConfig

Batch = Tuple[Tensor, Tensor, Tensor, Tensor]


def detector(**changes: Any) -> EfficientDet:
    """D0 of three classes at 64 pixels; the same random weights each time."""
    torch.manual_seed(0)
    config = replace(CONFIGS["efficientdet-d0"], image_size=(64, 64), num_classes=3, **changes)
    return build_efficientdet(config, PostprocessConfig())


@pytest.fixture
def batch() -> Batch:
    """Two pictures with a bright rectangle in each box, and padding."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 60, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    boxes = torch.zeros(2, 4, 4)
    boxes[0, 0] = torch.tensor([8.0, 8.0, 40.0, 40.0])
    boxes[0, 1] = torch.tensor([40.0, 30.0, 60.0, 62.0])
    boxes[1, 0] = torch.tensor([16.0, 4.0, 56.0, 48.0])
    labels = torch.tensor([[0, 2, -1, -1], [1, -1, -1, -1]], dtype=torch.int32)
    for image, (x1, y1, x2, y2) in (
        (0, (8, 8, 40, 40)),
        (0, (40, 30, 60, 62)),
        (1, (16, 4, 56, 48)),
    ):
        images[image, :, y1:y2, x1:x2] += 150
    return images, boxes, labels, torch.tensor([11, 12], dtype=torch.int32)


def test_every_trained_parameter_gets_a_gradient(batch: Batch) -> None:
    training = detector().for_training()
    loss, losses = training(*batch)
    assert training.loss_names == ("class", "box")
    assert loss.shape == ()
    assert losses.shape == (2,)
    torch.testing.assert_close(loss, losses.sum())
    assert (losses > 0).all()
    loss.backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        undone = name.endswith("pointwise.bias") and "predict" not in name  # by a batch norm
        undone |= name.endswith("cells.2.nodes.7.norm.bias")  # one cell: by the heads' first norm
        if not undone and "box_head.norms" not in name:  # no box is of the coarse levels' size
            assert parameter.grad.abs().sum() > 0, name


def test_losses_are_divided_by_positive_anchors_plus_one(batch: Batch) -> None:
    loss = LossConfig(box_weight=7.0)
    training = detector(norm="frozen", loss=loss).for_training()
    with torch.no_grad():
        found = training(*batch)[1]
        outputs = training.network(training.normalise(batch[0]))
        targets = assign_targets(training.anchors(), *batch[1:3])
        count = int(targets.positive.sum()) + 1
        assert count > 3
        expected = [
            class_loss(outputs[0], targets, loss) / count,
            7 * box_loss(outputs[1], targets, loss) / (4 * count),
        ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_images_without_boxes_train(batch: Batch) -> None:
    images, boxes, labels, keys = batch
    training = detector().for_training()
    loss, losses = training(images, boxes * 0, torch.full_like(labels, -1), keys)
    loss.backward()
    assert losses[1] == 0  # no boxes to regress to
    assert losses[0] > 0
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", ["d0", "lite0", pytest.param("d7x", marks=pytest.mark.slow)])
def test_shapes_are_fixed_by_the_configuration(name: str) -> None:
    with torch.device("meta"):
        training = efficientdet(name, 5, image_size=128).for_training()
    with FakeTensorMode(allow_non_fake_inputs=True):  # raises if a shape depends on values
        training.to_empty(device="cpu")
        loss, losses = training(
            torch.zeros(2, 3, 128, 128, dtype=torch.uint8),
            torch.zeros(2, 7, 4),
            torch.zeros(2, 7, dtype=torch.int32),
            torch.zeros(2, dtype=torch.int32),
        )
        loss.backward()
    assert loss.shape == ()
    assert losses.shape == (2,)


def test_d0_leaves_out_no_block_and_all_others_do() -> None:
    # AutoML switches it off where a backbone's name has "b0", which efficientnet-lite0 has not
    assert CONFIGS["efficientdet-d0"].survival == 1
    assert {one.survival for name, one in CONFIGS.items() if name != "efficientdet-d0"} == {0.8}


def test_keys_count_for_stochastic_depth_alone(batch: Batch) -> None:
    other = (*batch[:3], batch[3] + 100)
    for survival, differs in ((1.0, False), (0.5, True)):
        training = detector(survival=survival).for_training()
        with torch.no_grad():
            one, two = training(*batch)[1], training(*other)[1]
            again = training(*(value.flip(0) for value in batch))[1]  # another place in the batch
        torch.testing.assert_close(again, one)
        assert torch.equal(one, two) is not differs


def test_what_is_frozen_stays_as_it_is(batch: Batch) -> None:
    training = detector(frozen=("backbone", "class_head.convs")).for_training()
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    training(*batch)[0].backward()
    frozen = ("backbone.", "class_head.convs.")
    for name, parameter in training.network.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
    after = training.network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(frozen) for name in changed)
    assert any(name.startswith("bifpn.") and name.endswith("running_mean") for name in changed)


def test_frozen_norms_keep_scales_and_statistics(batch: Batch) -> None:
    training = detector(norm="frozen").for_training()
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    training(*batch)[0].backward()
    after = training.network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    untrained = {name for name, one in training.network.named_parameters() if one.grad is None}
    assert untrained == {name for name in before if name.endswith((".weight", ".bias"))} & {
        name for name in before if f"{name.rpartition('.')[0]}.running_mean" in before
    }


@pytest.mark.parametrize("name", ["neck", "backbone.stages.99", ""])
def test_freezing_what_is_no_module_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"model.frozen '{name}' is no module; there are"):
        detector(frozen=(name,))


def test_freezing_a_batch_norm_by_itself_is_refused() -> None:
    # it was accepted, and the statistics went on moving
    with pytest.raises(ValueError, match=r"'class_head\.norms\.0\.1' is a batch norm: name"):
        detector(frozen=("class_head.norms.0.1",))


def test_training_shares_parameters_and_statistics(batch: Batch) -> None:
    model = detector()
    training = model.for_training()
    assert training.training
    assert training.network is model.network
    before = model.network.state_dict()["backbone.stem.norm.running_mean"].clone()
    training(*batch)
    assert not torch.equal(model.network.state_dict()["backbone.stem.norm.running_mean"], before)


def test_a_folded_model_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="efficientdet-d0 is folded: it detects, and cannot be"):
        fold_batch_norm(detector()).for_training()


def test_images_of_another_size_are_refused(batch: Batch) -> None:
    training = detector().for_training()
    with pytest.raises(ValueError, match=r"expects images of \(64, 64\).*got \(64, 32\)"):
        training(batch[0][..., :32], *batch[1:])


def test_steps_on_one_batch_teach_both_heads(batch: Batch) -> None:
    training = detector().for_training()
    optimizer = torch.optim.AdamW(training.parameters(), lr=0.002)
    history = []
    for _ in range(6):
        optimizer.zero_grad()
        loss, losses = training(*batch)
        loss.backward()
        optimizer.step()
        history.append(losses.detach())
    assert (history[-1] < 0.95 * history[0]).all(), history
