"""Stochastic depth: probabilities by hand, a mean of one, and a key that decides alone."""

from __future__ import annotations

import pytest
import torch

from detectors.backbones.efficientnet import STAGES, EfficientNet, InvertedResidual
from detectors.stochastic_depth import draw_blocks

PROBABILITIES = [1.0, 0.9, 0.8, 0.7]  # 1 - 0.4 i / 4


def test_blocks_survive_with_falling_probability_and_a_mean_of_one() -> None:
    kept = draw_blocks(torch.arange(20_000), 4, survival=0.6)
    assert kept.shape == (20_000, 4)
    assert kept.dtype == torch.float32
    alive = (kept > 0).float().mean(dim=0)
    torch.testing.assert_close(alive, torch.tensor(PROBABILITIES), atol=0.01, rtol=0)
    torch.testing.assert_close(kept.mean(dim=0), torch.ones(4), atol=0.02, rtol=0)


def test_a_block_counts_for_nothing_or_for_one_over_its_probability() -> None:
    kept = draw_blocks(torch.arange(500), 4, survival=0.6)
    for block, probability in enumerate(PROBABILITIES):
        wanted = {0.0, round(1 / probability, 4)} if block else {1.0}
        assert {round(value, 4) for value in kept[:, block].tolist()} == wanted


def test_survival_of_one_leaves_out_nothing() -> None:
    assert torch.equal(draw_blocks(torch.arange(50), 7, survival=1.0), torch.ones(50, 7))


def test_a_key_decides_wherever_it_stands_in_a_batch() -> None:
    keys = torch.tensor([5, 900, 31, 5], dtype=torch.int32)
    kept = draw_blocks(keys, 30, survival=0.5)
    assert torch.equal(kept[0], kept[3])
    assert not torch.equal(kept[0], kept[1])
    for place, key in enumerate(keys):
        assert torch.equal(draw_blocks(key[None], 30, survival=0.5)[0], kept[place])


@pytest.fixture
def block() -> InvertedResidual:
    """With a residual branch, in evaluation mode: images do not see each other."""
    torch.manual_seed(0)
    return InvertedResidual(4, 4, STAGES[1], stride=1, lite=False).eval()


def test_a_block_is_its_input_plus_its_branch_times_what_was_drawn(block: InvertedResidual) -> None:
    x = torch.randn(3, 4, 5, 5)
    branch = block(x) - x
    out = block(x, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.equal(out[0], x[0])
    torch.testing.assert_close(out[1], x[1] + branch[1])
    torch.testing.assert_close(out[2], x[2] + 2 * branch[2])


def test_a_block_without_shortcut_is_never_left_out() -> None:
    block = InvertedResidual(4, 4, STAGES[1], stride=2, lite=False).eval()
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x, torch.zeros(2)), block(x))


def test_each_block_of_a_backbone_gets_its_own_column() -> None:
    backbone = EfficientNet("efficientnet-b0").eval()
    seen = []
    for stage in backbone.stages:
        for module in stage.children():
            module.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    kept = torch.arange(2.0 * backbone.num_blocks).view(2, -1)
    with torch.no_grad():
        backbone(torch.zeros(2, 3, 32, 32), kept)
    assert backbone.num_blocks == 16  # 1 + 2 + 2 + 3 + 3 + 4 + 1
    assert torch.equal(torch.stack(seen, dim=1), kept)
