"""Layers: TensorFlow's "same" padding against padding by hand."""

from __future__ import annotations

from typing import Tuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.layers import Conv2dSame, ConvNorm, freeze, max_pool_same, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (8, 3, 1, (1, 1)),
        (8, 3, 2, (0, 1)),  # even: one after
        (7, 3, 2, (1, 1)),  # odd: symmetric
        (8, 5, 2, (1, 2)),
        (7, 5, 2, (2, 2)),
        (8, 1, 1, (0, 0)),
        (1, 3, 2, (1, 1)),
        (6, 4, 3, (0, 1)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, pads: Tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == pads


def test_stride_2_conv_starts_at_the_first_pixel_of_an_even_row() -> None:
    conv = Conv2dSame(1, 1, 3, stride=2)
    conv.weight.data = torch.tensor([[[[0.0, 0, 0], [1, 2, 3], [0, 0, 0]]]])
    rows = torch.zeros(1, 1, 2, 4)
    rows[0, 0, 1] = torch.tensor([1.0, 10, 100, 1000])  # the middle kernel row reads row 1
    # windows (1, 10, 100) and (100, 1000, 0)
    assert conv(rows).flatten().tolist() == [321.0, 2100.0]


def test_stride_2_conv_pads_both_ends_of_an_odd_row() -> None:
    conv = Conv2dSame(1, 1, 3, stride=2)
    conv.weight.data = torch.tensor([[[[0.0, 0, 0], [1, 2, 3], [0, 0, 0]]]])
    row = torch.tensor([[[[1.0, 10, 100]]]])
    assert conv(row).flatten().tolist() == [32.0, 210.0]  # windows (0, 1, 10) and (10, 100, 0)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (9, 5), (1, 6)])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("training", [True, False])
def test_same_conv_equals_conv_of_a_padded_copy(
    kernel: int, stride: int, size: Tuple[int, int], groups: int, training: bool
) -> None:
    torch.manual_seed(0)
    conv = Conv2dSame(4, 8, kernel, stride, groups, bias=True).train(training)
    x = torch.randn(2, 4, *size)
    top, bottom = same_padding(size[0], kernel, stride)
    left, right = same_padding(size[1], kernel, stride)
    padded = F.pad(x, (left, right, top, bottom))
    expected = F.conv2d(padded, conv.weight, conv.bias, stride, groups=groups)
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


def pool_of_a_padded_copy(x: Tensor, kernel: Tuple[int, int], stride: Tuple[int, int]) -> Tensor:
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-torch.inf), kernel, stride)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("height", range(1, 14))
@pytest.mark.parametrize("width", [1, 6, 7, 11])
def test_same_max_pool_equals_pool_of_a_padded_copy(stride: int, height: int, width: int) -> None:
    x = -torch.rand(1, 2, height, width) - 1  # negative: a zero outside would win
    kernel = (stride + 1 if stride > 1 else 1, 3)
    actual = max_pool_same(x, kernel, (stride, 2))
    assert torch.equal(actual, pool_of_a_padded_copy(x, kernel, (stride, 2)))


def test_conv_norm_with_swish_leaves_its_input_alone() -> None:
    layer = ConvNorm(2, 2, 1, activation="swish").eval()
    x = torch.randn(1, 2, 3, 3)
    before = x.clone()
    layer(x)
    assert torch.equal(x, before)


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(ConvNorm(2, 3, 1), ConvNorm(3, 2, 1)).train()


def test_what_is_frozen_has_no_gradient_and_keeps_its_statistics() -> None:
    model = two_layers()
    freeze(model[0])
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(4, 2, 5, 5) + 3).sum().backward()
    after = model.state_dict()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"1.conv.weight", "1.norm.weight", "1.norm.bias"}
    assert all(torch.equal(after[name], before[name]) for name in before if name[0] == "0")
    assert not torch.equal(after["1.norm.running_mean"], before["1.norm.running_mean"])


def test_a_frozen_norm_does_in_training_what_it_does_in_evaluation() -> None:
    model, x = two_layers(), torch.randn(4, 2, 5, 5)
    expected = model.eval()(x)
    freeze(model, norms_only=True)
    assert torch.equal(model.train()(x), expected)
    assert all(isinstance(layer.norm, nn.BatchNorm2d) for layer in model)  # to load and to fold


@pytest.mark.parametrize("norms_only", [False, True])
def test_freezing_a_norm_of_another_class_is_refused(norms_only: bool) -> None:
    # timm's BatchNormAct2d was passed over, and its statistics went on moving
    class NormWithActivation(nn.BatchNorm2d):
        pass

    model = nn.Sequential(nn.Conv2d(2, 3, 1), NormWithActivation(3))
    with pytest.raises(ValueError, match="NormWithActivation is no plain batch norm and cannot be"):
        freeze(model, norms_only=norms_only)


def test_norms_alone_can_be_frozen() -> None:
    model = two_layers()
    names = list(model.state_dict())
    freeze(model, norms_only=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"0.conv.weight", "1.conv.weight"}
    assert list(model.state_dict()) == names
