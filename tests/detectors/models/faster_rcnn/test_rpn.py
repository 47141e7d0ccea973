"""Region proposals: outputs in the order of the anchors, and what is kept."""

from __future__ import annotations

from typing import Any, List

import pytest
import torch
from torch import Tensor

from detectors.anchors import exact_cell, grid_anchors
from detectors.models.faster_rcnn.rpn import RPN, Proposals

ANCHORS = torch.tensor(
    [
        [10.0, 10.0, 30.0, 30.0],
        [11.0, 10.0, 31.0, 30.0],  # IoU 0.905 with the first
        [50.0, 50.0, 70.0, 70.0],
        [90.0, 90.0, 130.0, 130.0],  # crosses the edge at 100
        [120.0, 10.0, 140.0, 30.0],  # outside
    ]
)
KEEP_4 = Proposals(ANCHORS, (100, 100), pre_nms=5, post_nms=4, nms_threshold=0.7)


def test_outputs_are_in_the_order_of_the_anchors() -> None:
    rpn = RPN(4, 4, num_anchors=3, objectness="sigmoid")
    features = torch.rand(1, 4, 5, 6)
    objectness, deltas = rpn(features)
    assert objectness.shape == (1, 90)
    assert deltas.shape == (1, 90, 4)
    x = rpn.conv(features).relu()
    logits, maps = rpn.objectness_logits(x), rpn.anchor_deltas(x)
    row, column, anchor = 2, 4, 1
    place = (row * 6 + column) * 3 + anchor
    torch.testing.assert_close(objectness[0, place], logits[0, anchor, row, column])
    torch.testing.assert_close(deltas[0, place], maps[0, 4 * anchor : 4 * anchor + 4, row, column])


def test_two_outputs_become_the_softmaxs_probability() -> None:
    rpn = RPN(4, 4, num_anchors=3, objectness="softmax")
    features = torch.rand(2, 4, 5, 6)
    objectness, _ = rpn(features)
    pairs = rpn.objectness_logits(rpn.conv(features).relu()).reshape(2, 2, 3, 5, 6)
    object_scores = pairs.softmax(dim=1)[:, 1].permute(0, 2, 3, 1).reshape(2, -1)
    torch.testing.assert_close(objectness.sigmoid(), object_scores)


def test_proposals_are_clipped_and_without_doubles() -> None:
    objectness = torch.tensor([[1.0, 3.0, -2.0, 2.0, 9.0]])
    boxes = KEEP_4(objectness, torch.zeros(1, 5, 4))
    assert boxes[0].tolist() == [
        [11.0, 10.0, 31.0, 30.0],
        [90.0, 90.0, 100.0, 100.0],
        [50.0, 50.0, 70.0, 70.0],  # a negative logit is no reason to go
        [0.0, 0.0, 0.0, 0.0],
    ]


def test_only_the_best_anchors_enter() -> None:
    few = Proposals(ANCHORS, (100, 100), pre_nms=2, post_nms=3, nms_threshold=0.7)
    boxes = few(torch.tensor([[1.0, 3.0, -2.0, 2.0, -9.0]]), torch.zeros(1, 5, 4))
    assert boxes[0, :, 0].tolist() == [11.0, 90.0, 0.0]


def test_proposals_carry_no_gradient() -> None:
    objectness = torch.rand(1, 5, requires_grad=True)
    assert not KEEP_4(objectness, torch.zeros(1, 5, 4, requires_grad=True)).requires_grad


def test_every_proposal_without_area_leaves_padding_only() -> None:
    outside = Proposals(ANCHORS[4:], (100, 100), pre_nms=5, post_nms=2, nms_threshold=0.7)
    assert outside(torch.ones(1, 1), torch.zeros(1, 1, 4)).abs().sum() == 0


def test_proposals_equal_torchvisions() -> None:
    peer: Any = pytest.importorskip("torchvision.models.detection.rpn")
    images: Any = pytest.importorskip("torchvision.models.detection.image_list")
    generator = torch.Generator().manual_seed(4)
    cells, size = (6, 8), (96, 128)
    anchors = grid_anchors(exact_cell((16, 32, 64), (0.5, 1.0, 2.0)), cells, 16)

    head: Any = peer.RPNHead(8, 9)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    ours = RPN(8, 8, 9, "sigmoid")
    renamed = {"conv.0.0": "conv", "cls_logits": "objectness_logits", "bbox_pred": "anchor_deltas"}
    state = {}
    for name, value in head.state_dict().items():
        module, _, kind = name.rpartition(".")
        state[f"{renamed.get(module, module)}.{kind}"] = value
    ours.load_state_dict(state)

    class Given(torch.nn.Module):
        def forward(self, image_list: Any, features: List[Tensor]) -> List[Tensor]:
            return [anchors] * len(image_list.image_sizes)

        def num_anchors_per_location(self) -> List[int]:
            return [9]

    network = peer.RegionProposalNetwork(
        Given(), head, 0.7, 0.3, 256, 0.5, {"training": 0, "testing": 200},
        {"training": 0, "testing": 50}, 0.7,
    ).eval()  # fmt: skip
    features = torch.randn(2, 8, *cells, generator=generator)
    batch = images.ImageList(torch.zeros(2, 3, *size), [size, size])
    with torch.no_grad():
        expected, _ = network(batch, {"0": features})
        found = Proposals(anchors, size, 200, 50, 0.7)(*ours(features))
    for image, boxes in enumerate(expected):
        assert len(boxes) > 20
        torch.testing.assert_close(found[image, : len(boxes)], boxes, rtol=1e-5, atol=1e-3)
        assert found[image, len(boxes) :].abs().sum() == 0
