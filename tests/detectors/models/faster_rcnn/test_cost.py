"""Multiply-adds by hand, of the smallest trunk."""

from __future__ import annotations

from detectors import faster_rcnn
from detectors.models.faster_rcnn.cost import count_multiply_adds

CELLS = 4 * 4  # what layer4 makes of 7 x 7 bins
CLASSES = 3


def test_each_region_costs_layer4_and_the_box_head() -> None:
    network = faster_rcnn("r18_c4", CLASSES).network.eval()
    one, two = (count_multiply_adds(network, (64, 96), regions) for regions in (1, 2))
    first = 256 * 512 * 9 + 512 * 512 * 9 + 256 * 512  # two convolutions and the shortcut's
    second = 2 * 512 * 512 * 9
    head = 512 * (CLASSES + 1) + 512 * CLASSES * 4
    assert two - one == CELLS * (first + second) + head


def test_the_first_stage_costs_what_its_cells_do() -> None:
    network = faster_rcnn("r18_c4", CLASSES).network.eval()
    sizes = [count_multiply_adds(network, (64, width), 1) for width in (64, 128, 192)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    # Of 64 x 64 more pixels: cells of stem, layer1, layer2, layer3 and RPN, each times its weights.
    stem = 32 * 32 * 64 * 3 * 49
    layer1 = 16 * 16 * 4 * 64 * 64 * 9
    layer2 = 8 * 8 * (64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128)
    layer3 = 4 * 4 * (128 * 256 * 9 + 3 * 256 * 256 * 9 + 128 * 256)
    rpn = 4 * 4 * (256 * 256 * 9 + 256 * 15 * 2 + 256 * 15 * 4)
    assert sizes[1] - sizes[0] == stem + layer1 + layer2 + layer3 + rpn
