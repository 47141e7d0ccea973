"""The pyramid: its graph, its fusions, its resampling."""

from __future__ import annotations

from typing import List, Tuple

import pytest
import torch

from detectors.models.efficientdet.bifpn import (
    AttentionFusion,
    BiFPN,
    FastFusion,
    SumFusion,
    bifpn_nodes,
    resample,
)

GRAPHS = {
    (3, 7): "6:[3,4] 5:[2,5] 4:[1,6] 3:[0,7] 4:[1,7,8] 5:[2,6,9] 6:[3,5,10] 7:[4,11]",
    (3, 8): "7:[4,5] 6:[3,6] 5:[2,7] 4:[1,8] 3:[0,9] 4:[1,9,10] 5:[2,8,11] 6:[3,7,12] 7:[4,6,13]"
    " 8:[5,14]",
    (2, 7): "6:[4,5] 5:[3,6] 4:[2,7] 3:[1,8] 2:[0,9] 3:[1,9,10] 4:[2,8,11] 5:[3,7,12] 6:[4,6,13]"
    " 7:[5,14]",
}


@pytest.mark.parametrize("levels", GRAPHS)
def test_node_graph(levels: Tuple[int, int]) -> None:
    text = " ".join(
        f"{node.level}:[{','.join(map(str, node.inputs))}]" for node in bifpn_nodes(*levels)
    )
    assert text == GRAPHS[levels]


def test_fast_fusion_by_hand() -> None:
    x = torch.tensor([1.0, 3.0])
    torch.testing.assert_close(FastFusion(2)([x, x]), torch.tensor([0.99995, 2.99985]))


def test_fast_fusion_ignores_negative_weights() -> None:
    fusion = FastFusion(3)
    fusion.edge_weights.data = torch.tensor([1.0, -5.0, 3.0])
    x = torch.ones(1)
    expected = torch.tensor([(1 * 4 + 3 * 8) / 4.0001])
    torch.testing.assert_close(fusion([4 * x, 100 * x, 8 * x]), expected)


def test_sum_fusion_by_hand() -> None:
    assert SumFusion(3)([torch.ones(1), torch.ones(1), 3 * torch.ones(1)]).item() == 5.0


def test_attention_fusion_by_hand() -> None:
    fusion = AttentionFusion(2)
    fusion.edge_weights.data = torch.tensor([0.0, 3.0]).log().clamp(min=-50)
    torch.testing.assert_close(fusion([torch.ones(1), 5 * torch.ones(1)]), torch.tensor([5.0]))
    fusion.edge_weights.data = torch.tensor([1.0, 3.0]).log()
    torch.testing.assert_close(fusion([torch.ones(1), 5 * torch.ones(1)]), torch.tensor([4.0]))


def test_resample_to_its_own_size_is_the_map_itself() -> None:
    x = torch.rand(1, 1, 3, 5)
    assert resample(x, (3, 5)) is x


def test_resample_halves_by_max() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    # 3x3 windows from rows and columns 0 and 2, cut at the end
    assert resample(x, (2, 2)).flatten().tolist() == [10.0, 11.0, 14.0, 15.0]


def test_resample_halves_an_odd_map_symmetrically() -> None:
    x = torch.arange(3.0).reshape(1, 1, 1, 3)
    assert resample(x, (1, 2)).flatten().tolist() == [1.0, 2.0]


def test_resample_doubles_to_the_nearest() -> None:
    x = torch.tensor([[[[1.0, 2.0]]]])
    assert resample(x, (1, 4)).flatten().tolist() == [1.0, 1.0, 2.0, 2.0]
    assert resample(x, (1, 3)).flatten().tolist() == [1.0, 1.0, 2.0]  # as automl


def test_resample_refuses_to_grow_and_shrink_at_once() -> None:
    with pytest.raises(ValueError, match="one axis grows"):
        resample(torch.zeros(1, 1, 4, 4), (8, 2))


@pytest.mark.parametrize("size", [(64, 96), (71, 53)])
def test_levels_keep_their_sizes(size: Tuple[int, int]) -> None:
    features: List[torch.Tensor] = []
    height, width = size
    for level in range(1, 6):
        height, width = -(-height // 2), -(-width // 2)
        if level >= 3:
            features.append(torch.rand(2, 10 * level, height, width))
    pyramid = BiFPN([30, 40, 50], 8, 2, (3, 7)).eval()(features)
    assert [tuple(x.shape[:2]) for x in pyramid] == [(2, 8)] * 5
    sizes = [tuple(x.shape[2:]) for x in pyramid]
    assert sizes[:3] == [tuple(x.shape[2:]) for x in features]
    for fine, coarse in zip(sizes, sizes[1:]):
        assert coarse == (-(-fine[0] // 2), -(-fine[1] // 2))


def test_only_the_first_cell_projects_and_c4_c5_do_so_twice() -> None:
    pyramid = BiFPN([30, 40, 50], 8, 2, (3, 7))
    names = [name for name, _ in pyramid.named_parameters() if name.endswith("conv.bias")]
    projections = [name for name in names if ".inputs." in name]
    assert len(projections) == 5
    assert all(name.startswith("cells.0.") for name in projections)
    assert "extra_levels.0.project.conv.bias" in names
