"""ResNet: torchvision's names and numbers, strides, norms, freezing, folding."""

from __future__ import annotations

from typing import Any, List

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from detectors.backbones.resnet import Bottleneck, ResNet
from detectors.folding import fold_batch_norm
from detectors.layers import FrozenBatchNorm2d


@pytest.fixture(scope="module")
def models() -> Any:
    return pytest.importorskip("torchvision.models")


def randomise(model: nn.Module) -> None:
    """Norms that do something."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.state_dict().items():
        if value.dim() == 1:
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if "var" in name or "weight" in name else noise - 0.5)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("depth", [18, 50, 101])
def test_torchvisions_state_dict_leaves_only_fc(models: Any, depth: int, norm: str) -> None:
    with torch.device("meta"):
        state = getattr(models, f"resnet{depth}")(weights=None).state_dict()
        backbone = ResNet(depth, norm)
    missing, unexpected = backbone.load_state_dict(state, strict=False)
    assert missing == []
    assert sorted(unexpected) == ["fc.bias", "fc.weight"]


@pytest.mark.parametrize("depth", [18, 50])
def test_features_equal_torchvisions(models: Any, depth: int) -> None:
    peer = getattr(models, f"resnet{depth}")(weights=None).eval()
    randomise(peer)
    backbone = ResNet(depth, "frozen").eval()
    backbone.load_state_dict(peer.state_dict(), strict=False)
    peer.double()
    backbone.double()
    features: List[Tensor] = []
    peer.layer3.register_forward_hook(lambda module, args, out: features.append(out))
    peer.layer4.register_forward_hook(lambda module, args, out: features.append(out))
    image = torch.rand(1, 3, 48, 32).double()
    with torch.no_grad():
        peer(image)
        ours = backbone(image)
        torch.testing.assert_close(ours, features[0])
        torch.testing.assert_close(backbone.layer4(ours), features[1])


def test_stride_sits_in_the_3x3_or_in_the_1x1() -> None:
    for in_1x1, strides in ((False, [1, 2, 1]), (True, [2, 1, 1])):
        block = ResNet(50, stride_in_1x1=in_1x1).layer3[0]
        assert isinstance(block, Bottleneck)
        found = [conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)]
        assert found == strides


@pytest.mark.parametrize(("pool", "stride", "out"), [(14, 2, 7), (7, 1, 7), (7, 2, 4)])
@pytest.mark.parametrize("in_1x1", [False, True])
def test_res5_variants(pool: int, stride: int, out: int, in_1x1: bool) -> None:
    with FakeTensorMode():
        backbone = ResNet(50, stride_in_1x1=in_1x1, res5_stride=stride)
        regions = backbone.layer4(torch.rand(3, 1024, pool, pool))
        features = backbone(torch.rand(1, 3, 100, 64))
    assert regions.shape == (3, 2048, out, out)
    assert features.shape == (1, 1024, 7, 4)  # ceil(100 / 16), ceil(64 / 16)


def test_frozen_stages_take_no_gradient_and_keep_their_statistics() -> None:
    backbone = ResNet(18, "batch", frozen_stages=2).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone(torch.rand(2, 3, 32, 16)).sum().backward()
    for name, parameter in backbone.named_parameters():
        frozen = name.startswith(("conv1", "layer1"))
        assert parameter.requires_grad != frozen, name
        assert name.startswith("layer4") or (parameter.grad is None) == frozen, name
    moved = {name for name, value in backbone.state_dict().items() if (value != before[name]).any()}
    assert not any(name.startswith(("bn1", "layer1", "layer4")) for name in moved)
    assert "layer2.0.bn1.running_mean" in moved


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_frozen_norms_stay_exact_in_low_precision(low: torch.dtype) -> None:
    backbone = ResNet(18, "frozen")
    backbone.state_dict()["bn1.running_mean"].fill_(
        1000.5
    )  # half has steps of 0.5 there, bfloat16 of 4
    backbone.to(low)
    assert backbone.conv1.weight.dtype == low
    mean = backbone.state_dict()["bn1.running_mean"]
    assert mean.dtype == torch.float32
    assert float(mean[0]) == 1000.5


def test_frozen_norm_is_scale_and_shift_in_its_inputs_precision() -> None:
    norm = FrozenBatchNorm2d(1, eps=0.0)
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(4.0)
    norm.weight.fill_(6.0)
    norm.bias.fill_(1.0)
    out = norm.train()(torch.full((1, 1, 1, 1), 5.0).bfloat16())
    assert out.dtype == torch.bfloat16
    assert float(out) == 7.0  # (5 - 3) / 2 * 6 + 1


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_folding_leaves_the_features_as_they_are(norm: str) -> None:
    backbone = ResNet(18, norm).eval()
    randomise(backbone)
    folded = fold_batch_norm(backbone)
    image = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        ours, expected = folded(image), backbone(image)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            folded.layer4(ours), backbone.layer4(expected), rtol=1e-4, atol=1e-4
        )
    assert not any("running" in name for name in folded.state_dict())
