"""Our network and post-processing against effdet's, with equal weights, on real images."""

from __future__ import annotations

import copy
import importlib
from typing import Any, Callable, List, Tuple

import pytest
import torch
from torch import Tensor, nn

from detectors import efficientdet
from detectors.folding import fold_batch_norm
from detectors.models.efficientdet.inference import EfficientDet
from detectors.postprocess import Postprocess, PostprocessConfig

Pair = Tuple[nn.Module, EfficientDet]
Levels = List[Tensor]

XYXY_FROM_YXYX = torch.tensor([1, 0, 3, 2])

NAMES = [
    "d0",
    pytest.param("d1", marks=pytest.mark.slow),
    pytest.param("d2", marks=pytest.mark.slow),
    pytest.param("d3", marks=pytest.mark.slow),
]

EFFDET = PostprocessConfig(
    top_k=5000,
    multiclass=True,
    iou_threshold=0.5,
    score_threshold=0.0,
    max_detections=100,
    clip_before_nms=True,
)


def rows(levels: Levels, width: int) -> Tensor:
    """effdet's (B, A * width, H, W) maps -> (B, N, width)."""
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, width) for level in levels], dim=1
    )


def head_outputs(pair: Pair, images: Tensor) -> Tuple[Levels, Levels, Levels, Levels]:
    """effdet's class and box maps, then ours, of the same images."""
    peer, model = pair
    with torch.no_grad():
        theirs: Tuple[Levels, Levels] = peer(model.normalise(images))
        ours = model.predict(images)
    return (*theirs, *ours)


@pytest.mark.parametrize("name", NAMES)
def test_head_outputs_equal_effdets(
    name: str, effdet_pair: Callable[[str], Pair], real_images: Callable[[int, int], Tensor]
) -> None:
    pair = effdet_pair(name)
    images = real_images(2 if name == "d0" else 1, pair[1].config.image_size[0])
    their_logits, their_deltas, our_logits, our_deltas = head_outputs(pair, images)
    logits = rows(their_logits, 90)
    deltas = rows(their_deltas, 4)[..., XYXY_FROM_YXYX]
    assert logits.std() >= 1  # an untouched head returns its bias and proves nothing
    assert deltas.std() >= 0.3
    assert (torch.cat(our_logits, 1) - logits).abs().max() <= 1e-4 * logits.std()
    assert (torch.cat(our_deltas, 1) - deltas).abs().max() <= 1e-4 * deltas.std()


@pytest.mark.parametrize("name", NAMES)
def test_detections_equal_effdets_given_the_same_head_outputs(
    name: str, effdet_pair: Callable[[str], Pair], real_images: Callable[[int, int], Tensor]
) -> None:
    pair = effdet_pair(name)
    bench: Any = importlib.import_module("effdet.bench")
    anchors: Any = importlib.import_module("effdet.anchors")
    peer, model = pair
    height, width = model.config.image_size
    images = real_images(2 if name == "d0" else 1, height)
    batch = images.shape[0]
    their_logits, their_deltas, _, _ = head_outputs(pair, images)
    selected = bench._post_process(their_logits, their_deltas, 5, 90, 5000)
    grid = anchors.Anchors.from_config(peer.config).boxes
    size = torch.tensor([[float(width), float(height)]] * batch)
    theirs = bench._batch_detection(
        batch, *selected[:2], grid, *selected[2:], torch.ones(batch), size, 100
    )  # (B, 100, 6): xyxy, score, label from 1
    assert (theirs[..., 4].diff(dim=1) < 0).all()  # no ties: their order is anybody's
    postprocess = Postprocess(model.postprocess.anchors(), (height, width), EFFDET)
    ours = postprocess(
        [rows([level], 90) for level in their_logits],
        [rows([level], 4)[..., XYXY_FROM_YXYX] for level in their_deltas],
    )
    assert ours.count.tolist() == [100] * batch
    torch.testing.assert_close(ours.labels, theirs[..., 5].int() - 1)
    torch.testing.assert_close(ours.boxes, theirs[..., :4], atol=1e-3, rtol=0)
    torch.testing.assert_close(ours.scores, theirs[..., 4], atol=1e-5, rtol=0)


def test_folding_keeps_head_outputs(
    effdet_pair: Callable[[str], Pair], real_images: Callable[[int, int], Tensor]
) -> None:
    _, model = effdet_pair("d0")
    folded = fold_batch_norm(model)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    images = real_images(1, 512)
    with torch.no_grad():
        # In double: single-precision convolutions alone differ by 2e-4 from exact ones here.
        exact = copy.deepcopy(model).double().predict(images)
        for whole, parts in zip(exact, folded.double().predict(images)):
            torch.testing.assert_close(torch.cat(parts, 1), torch.cat(whole, 1), atol=1e-4, rtol=0)


def test_channels_last_keeps_head_outputs(
    effdet_pair: Callable[[str], Pair], real_images: Callable[[int, int], Tensor]
) -> None:
    _, model = effdet_pair("d0")
    fast = fold_batch_norm(model).to(memory_format=torch.channels_last)
    images = real_images(1, 512)
    with torch.no_grad():
        for slow, quick in zip(model.predict(images), fast.predict(images)):
            assert all(level.is_contiguous() for level in quick)
            expected = torch.cat(slow, 1)
            assert (torch.cat(quick, 1) - expected).std() <= 1e-4 * expected.std()


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2", "lite3", "lite3x", "lite4"])
def test_lite_models_have_effdets_parameters(name: str, effdet: Any) -> None:
    with torch.device("meta"):
        config = effdet.get_efficientdet_config(f"tf_efficientdet_{name}")
        peer = effdet.EfficientDet(config, pretrained_backbone=False)
        model = efficientdet(name)
    assert model.config.image_size == tuple(config.image_size)
    assert model.config.anchor_scale == config.anchor_scale
    assert sum(p.numel() for p in model.network.parameters()) == sum(
        p.numel() for p in peer.parameters()
    )
