"""The two named pipelines: what they may do to boxes, and that the key decides."""

from __future__ import annotations

import importlib.util
import pickle
from typing import List

import pytest
import torch
from torch import Tensor

from data.generated import GeneratedImages
from data.policies import POLICIES, auto_augment, grid_mask
from data.sample import Sample
from data.transforms import MEAN_COLOUR

INSTALLED = importlib.util.find_spec("albumentations") is not None
pytestmark = pytest.mark.skipif(not INSTALLED, reason="albumentations is not installed")

HEIGHT, WIDTH = 60, 80


def red_square(labels: Tensor) -> Sample:
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    image[0, 20:40, 30:50] = 255
    boxes = torch.tensor([[30.0, 20.0, 50.0, 40.0], [30.25, 20.5, 49.75, 39.5]])
    return Sample(image, "a.png", 1, boxes, labels)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_key_decides_and_nothing_else(name: str) -> None:
    change = POLICIES[name]()
    sent = pickle.loads(pickle.dumps(change))  # as to a worker that is spawned
    sample = GeneratedImages(1, (HEIGHT, WIDTH))[0]
    ones = [change(sample, key) for key in range(20)]
    torch.rand(3)
    for key in reversed(range(20)):
        other = sent(sample, key)
        assert torch.equal(ones[key].image, other.image)
        assert torch.equal(ones[key].boxes, other.boxes)
        assert torch.equal(ones[key].labels, other.labels)
    assert len({one.image.numpy().tobytes() for one in ones}) > 8


def test_a_grid_hides_squares_and_moves_no_box() -> None:
    change, sample = grid_mask(), red_square(torch.tensor([-1, 3]))
    hidden = torch.tensor(MEAN_COLOUR, dtype=torch.uint8)[:, None, None]
    shares: List[float] = []
    for key in range(60):
        changed = change(sample, key)
        empty = (changed.image == hidden).all(dim=0)  # (h, w)
        assert torch.equal(changed.image[:, ~empty], sample.image[:, ~empty])
        assert torch.equal(changed.boxes, sample.boxes)  # 2.0 would narrow them, to whole pixels
        assert changed.labels.tolist() == [-1, 3]
        shares.append(float(empty.float().mean()))
    assert 20 < sum(share > 0 for share in shares) < 50  # of 60, 0.6 are
    assert 0.1 < max(shares) < 0.45  # a quarter, but for squares that the border cuts


def test_what_a_grid_hides_is_left_out() -> None:
    change = grid_mask()
    corners = torch.tensor([[x, y, x + 4.0, y + 4.0] for x in range(0, 76, 4) for y in (8.0, 40.0)])
    sample = Sample(red_square(torch.zeros(2)).image, "a", 1, corners, torch.arange(len(corners)))
    hidden = torch.tensor(MEAN_COLOUR, dtype=torch.uint8)[:, None, None]
    lost = 0
    for key in range(20):
        changed = change(sample, key)
        empty = (changed.image == hidden).all(dim=0)
        kept = set(changed.labels.tolist())
        for label, (x1, y1, x2, y2) in enumerate(corners.int().tolist()):
            assert (label not in kept) == bool(empty[y1:y2, x1:x2].all())
        lost += len(corners) - len(kept)
    assert lost > 20


def test_boxes_follow_the_movements_of_a_policy() -> None:
    change, sample = auto_augment(), red_square(torch.tensor([5, -1]))
    still = moved = 0
    for key in range(60):
        changed = change(sample, key)
        assert changed.original_size == (HEIGHT, WIDTH)
        assert changed.labels.tolist() == [5, -1]
        colour = changed.image[0].int() - changed.image[1].int()
        rows, columns = (colour > 60).nonzero().unbind(-1)
        box = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        torch.testing.assert_close(changed.boxes[0], box.float(), atol=1.6, rtol=0)
        moved += int(not torch.allclose(changed.boxes, sample.boxes, atol=1e-3))
        still += int(torch.allclose(changed.boxes, sample.boxes, atol=1e-3))
    assert moved > 20
    assert still > 10
