"""Pictures and boxes in the network's fixed input."""

from __future__ import annotations

from typing import List, Tuple

import pytest
import torch

from data.collate import Placed, to_original
from data.fitting import Fit, fit_sample, put
from data.sample import Sample
from data.transforms import letterbox

PAD = (1, 2, 3)


def bright(box: Tuple[int, int, int, int], size: Tuple[int, int] = (50, 100)) -> Sample:
    """A black picture with one white box, labelled."""
    x1, y1, x2, y2 = box
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] = 255
    return Sample(image, "a", 1, torch.tensor([box], dtype=torch.float32), torch.tensor([0]))


def white_box(placed: Placed) -> List[int]:
    """Where the white pixels are, xyxy."""
    rows, columns = torch.nonzero(placed.image[0] > 128, as_tuple=True)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


@pytest.mark.parametrize("how", ["letterbox", "squash", "short_edge"])
@pytest.mark.parametrize("flip", [False, True])
def test_boxes_stay_on_what_they_show(how: str, flip: bool) -> None:
    sample = bright((20, 10, 60, 30))
    fit = Fit((200, 200), how, short_edges=(80, 90), long_edge=190, pad=PAD)
    placed = put(sample, fit, fit.target((50, 100)), offset=(5, -7), flip=flip)
    torch.testing.assert_close(
        placed.boxes[0], torch.tensor(white_box(placed)).float(), atol=1.01, rtol=0
    )
    back = to_original(placed.boxes, placed.placement)
    torch.testing.assert_close(back, sample.boxes, atol=1e-4, rtol=0)


def test_letterbox_is_the_one_of_inference() -> None:
    sample = bright((20, 10, 60, 30), (427, 640))
    placed = fit_sample(sample, Fit((512, 512)))
    image, scale = letterbox(sample.image, (512, 512))
    assert torch.equal(placed.image, image)
    assert placed.placement.scale == scale
    assert placed.placement.stretch == 1.0


def test_squash_fills_the_input() -> None:
    for size in ((333, 500), (375, 499), (7, 9)):
        sample = bright((0, 0, size[1], size[0]), size)
        placed = fit_sample(sample, Fit((800, 800), "squash", pad=PAD))
        assert (placed.image == 255).all()
        torch.testing.assert_close(placed.boxes, torch.tensor([[0.0, 0.0, 800.0, 800.0]]))


def test_short_edge_draws_a_scale_and_evaluates_at_the_last() -> None:
    fit = Fit((1344, 1344), "short_edge", short_edges=(480, 800), long_edge=1333)
    assert fit.target((375, 500), edge=0.0).size == (480, 640)
    assert fit.target((375, 500), edge=0.999).size == (800, 1066)
    assert fit.target((375, 500)).size == (800, 1066)
    assert fit.target((200, 1000)).size == (266, 1333)  # the long edge holds it back


def test_a_cut_box_is_left_out_and_counted() -> None:
    sample = Sample(
        torch.zeros(3, 10, 10, dtype=torch.uint8),
        "a",
        1,
        torch.tensor([[0.0, 0.0, 4.0, 4.0], [3.5, 0.0, 9.0, 9.0], [9.0, 9.0, 9.5, 9.5]]),
        torch.tensor([0, 1, 2]),
    )
    placed = put(sample, Fit((10, 10)), Fit((10, 10)).target((10, 10)), offset=(-4, 0))
    assert placed.labels.tolist() == [1, 2]  # small ones stay if no cut made them small
    assert placed.boxes[0].tolist() == [0.0, 0.0, 5.0, 9.0]
    assert placed.placement.cut == 1


def test_a_picture_may_lie_wholly_outside() -> None:
    placed = put(bright((20, 10, 60, 30)), Fit((10, 10), pad=PAD), Fit((10, 10)).target((50, 100)),
                 offset=(50, 0))  # fmt: skip
    assert (placed.image == torch.tensor(PAD)[:, None, None]).all()
    assert placed.boxes.shape == (0, 4)


def test_pictures_without_boxes_pass() -> None:
    placed = fit_sample(Sample(torch.zeros(3, 9, 7, dtype=torch.uint8), "a", 1), Fit((16, 16)))
    assert placed.boxes.shape == (0, 4)
    assert placed.labels.shape == (0,)


def test_a_fit_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="one of letterbox, squash, short_edge, got 'stretch'"):
        Fit((8, 8), "stretch")
    with pytest.raises(ValueError, match="long_edge 1333 does not fit into the input of 800x800"):
        Fit((800, 800), "short_edge", (600,), 1333)
    with pytest.raises(ValueError, match="needs short_edges"):
        Fit((800, 800), "short_edge")
    with pytest.raises(ValueError, match="resample must be one of"):
        Fit((8, 8), resample="cubic")
