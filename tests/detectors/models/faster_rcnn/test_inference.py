"""Detection: shapes, candidates by hand, and a whole detector of torchvision's beside ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Tuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import detectors
from detectors.models.faster_rcnn.config import CONFIGS, FasterRCNNConfig
from detectors.models.faster_rcnn.inference import BoxPostprocess, FasterRCNN, build_faster_rcnn
from detectors.models.faster_rcnn.rpn import build_anchors
from detectors.postprocess import Detections, PostprocessConfig

Batch = Tuple[Tensor, Tensor, Tensor, Tensor]
Detector = Callable[..., FasterRCNN]


def test_names_have_many_spellings() -> None:
    with torch.device("meta"):
        for text in ("r18_c4", "R18-C4", "faster_rcnn-r18_c4"):
            assert detectors.faster_rcnn(text, 3).config.name == "faster_rcnn-r18_c4"
        assert detectors.faster_rcnn("r101_c4").config.depth == 101
    with pytest.raises(ValueError, match=r"no Faster R-CNN 'r50_fpn'; there are r18_c4, .*r101_c4"):
        detectors.faster_rcnn("r50_fpn")
    with pytest.raises(ValueError, match=r"variant must be one of .*'detectron2'"):
        detectors.faster_rcnn("r50_c4", variant="d2")


@pytest.mark.parametrize("variant", list(CONFIGS))
def test_shapes_are_fixed_by_the_configuration(variant: str, detector: Detector) -> None:
    with FakeTensorMode():  # raises if a shape or branch depends on values
        model = detector(variant, depth=50, norm="frozen")
        found = model(torch.zeros(2, 3, 96, 128, dtype=torch.uint8))
    shapes = [(tuple(value.shape), value.dtype) for value in found]
    assert shapes == [
        ((2, 100, 4), torch.float32),
        ((2, 100), torch.float32),
        ((2, 100), torch.int32),
        ((2,), torch.int32),
    ]


def test_images_of_another_size_are_refused(detector: Detector) -> None:
    with pytest.raises(ValueError, match=r"expects images of \(96, 128\).*got \(128, 96\)"):
        detector()(torch.zeros(1, 3, 128, 96))
    with pytest.raises(ValueError, match=r"expects images of \(96, 128\).*got \(64, 64\)"):
        detector().for_training()(torch.zeros(1, 3, 64, 64), *[torch.zeros(1)] * 3)


def test_candidates_of_one_proposal_by_hand() -> None:
    post = BoxPostprocess((100, 100), CONFIGS["detectron2"].postprocess)
    logits = torch.tensor([[[1.0, 3.0, 0.0], [9.0, 9.0, 0.0]]]).log()  # 1/4, 3/4, background
    logits = logits.clamp(min=-60.0)
    deltas = torch.tensor([[0.0, 0.0, 0.0, 0.0], [10.0, 0.0, 0.0, 0.0]]).expand(1, 2, 2, 4)
    proposals = torch.tensor([[[10.0, 10.0, 30.0, 50.0], [0.0, 0.0, 0.0, 0.0]]])  # and padding
    boxes, scores, labels = post.candidates(logits, deltas, proposals)
    torch.testing.assert_close(scores, torch.tensor([[0.75, 0.25, -1.0, -1.0]]))
    assert labels[0, :2].tolist() == [1, 0]
    assert boxes[0, 0].tolist() == [30.0, 10.0, 50.0, 50.0]  # class 1 moves by its width
    assert boxes[0, 1].tolist() == [10.0, 10.0, 30.0, 50.0]
    found = post.select(post.candidates(logits, deltas, proposals))
    assert found.count.tolist() == [2]


def test_only_the_best_candidates_enter_nms() -> None:
    config = replace(CONFIGS["detectron2"].postprocess, top_k=3)
    post = BoxPostprocess((100, 100), config)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 4, generator=generator)
    candidates = post.candidates(logits, torch.zeros(1, 5, 3, 4), torch.rand(1, 5, 4) + BOX)
    best = logits.softmax(-1)[..., :-1].flatten().topk(3)
    assert torch.equal(candidates.scores[0], best.values)
    assert torch.equal(candidates.labels[0].long(), best.indices % 3)


BOX = torch.tensor([10.0, 10.0, 40.0, 40.0])


def test_one_box_for_all_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="multiclass must be True"):
        BoxPostprocess((100, 100), PostprocessConfig())


def test_nms_can_run_on_the_host(detector: Detector, batch: Batch) -> None:
    model = detector()
    with torch.no_grad():
        expected = model(batch[0])
        model.nms = "none"
        found = model.postprocess.select(model(batch[0]))
    assert int(expected.count.sum()) > 0
    for ours, theirs in zip(found, expected):
        assert torch.equal(ours, theirs)


def test_another_image_size_moves_the_anchors_and_keeps_the_weights(detector: Detector) -> None:
    model = detector()
    before = model.network.rpn.conv.weight
    model.configure(image_size=64, mean=(1.0, 2.0, 3.0))
    assert model.network.rpn.conv.weight is before
    assert model.config.mean == (1.0, 2.0, 3.0)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).boxes.shape == (1, 100, 4)


def torchvision_twin(config: FasterRCNNConfig) -> Tuple[nn.Module, FasterRCNN]:
    """torchvision's two-stage detector on a C4 trunk, and ours with its weights."""
    models: Any = pytest.importorskip("torchvision.models")
    detection: Any = pytest.importorskip("torchvision.models.detection.faster_rcnn")
    region: Any = pytest.importorskip("torchvision.models.detection.rpn")
    ops: Any = pytest.importorskip("torchvision.ops")
    torch.manual_seed(5)
    resnet = models.resnet18(weights=None)
    anchors = build_anchors(config)

    class Anchors(nn.Module):
        def forward(self, images: Any, features: Any) -> Any:
            return [anchors] * len(images.image_sizes)

    layers = [getattr(resnet, name) for name in ("conv1", "bn1", "relu", "maxpool")]
    trunk: Any = nn.Sequential(*layers, resnet.layer1, resnet.layer2, resnet.layer3)
    trunk.out_channels = 256
    rpn, head = config.rpn, config.box_head
    peer: Any = detection.FasterRCNN(
        trunk,
        min_size=96,
        max_size=128,
        image_mean=[value / 255 for value in config.mean],
        image_std=[value / 255 for value in config.std],
        rpn_head=region.RPNHead(256, config.num_anchors),
        rpn_pre_nms_top_n_test=rpn.pre_nms[1],
        rpn_post_nms_top_n_test=rpn.post_nms[1],
        box_roi_pool=ops.MultiScaleRoIAlign(["0"], head.pool_size, head.sampling_ratio),
        box_head=nn.Sequential(resnet.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        box_predictor=detection.FastRCNNPredictor(512, config.num_classes + 1),
        box_score_thresh=head.score_threshold,
        box_nms_thresh=head.nms_threshold,
        size_divisible=16,
    ).eval()
    peer.rpn.anchor_generator = Anchors()
    predictor = peer.roi_heads.box_predictor
    for parameter, std in (
        (peer.rpn.head.cls_logits.weight, 0.1),
        (peer.rpn.head.bbox_pred.weight, 0.02),
        (predictor.cls_score.weight, 0.1),
        (predictor.bbox_pred.weight, 0.05),
    ):
        nn.init.normal_(parameter, std=std)

    model = build_faster_rcnn(config)
    network = model.network
    network.backbone.load_state_dict(resnet.state_dict(), strict=False)
    theirs = peer.rpn.head
    network.rpn.conv.load_state_dict(theirs.conv[0][0].state_dict())
    network.rpn.objectness_logits.load_state_dict(theirs.cls_logits.state_dict())
    network.rpn.anchor_deltas.load_state_dict(theirs.bbox_pred.state_dict())
    for ours, layer, first in (
        (network.box_head.class_logits, predictor.cls_score, 1),
        (network.box_head.box_deltas, predictor.bbox_pred, 4),
    ):
        for name, value in layer.state_dict().items():
            values = value.roll(-1, 0) if first == 1 else value[first:]  # background last; none
            getattr(ours, name).data.copy_(values)
    return peer, model


def test_detections_equal_torchvisions(config: Callable[..., FasterRCNNConfig]) -> None:
    base = config("detectron2", norm="frozen")
    head = replace(base.box_head, aligned=False, sampling_ratio=2, pool_size=7)
    peer, model = torchvision_twin(replace(base, box_head=head))
    generator = torch.Generator().manual_seed(8)
    # As large as torchvision's padded canvas: borders have a part in every feature.
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        expected = peer([image / 255 for image in images])
        found = model(images)
    assert isinstance(found, Detections)
    for index, one in enumerate(expected):
        count = int(found.count[index])
        assert count == len(one["scores"])
        assert count > 5
        torch.testing.assert_close(found.scores[index, :count], one["scores"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.boxes[index, :count], one["boxes"], rtol=1e-3, atol=1e-2)
        assert torch.equal(found.labels[index, :count].long(), one["labels"] - 1)
