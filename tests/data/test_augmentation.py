"""What training changes: drawn from (seed, epoch, index), and boxes follow."""

from __future__ import annotations

from typing import List

import pytest
import torch

from data.augmentation import Augmentation, augment_sample
from data.collate import Placed, to_original
from data.colours import ColourJitter, jitter_colours
from data.fitting import Fit, fit_sample
from data.randomness import generator
from data.sample import Sample

FIT = Fit((64, 64))
ALL = Augmentation(
    flip=0.5,
    scale=(0.5, 1.5),
    place="anywhere",
    colour=ColourJitter(0.5, 0.1, (0.8, 1.2), (0.8, 1.2)),
)


@pytest.fixture(scope="module")
def sample() -> Sample:
    image = torch.randint(256, (3, 30, 40), generator=torch.Generator().manual_seed(0)).byte()
    boxes = torch.tensor([[4.0, 6.0, 30.0, 20.0]])
    return Sample(image, "a", 1, boxes, torch.tensor([0]))


def draws(sample: Sample, settings: Augmentation, count: int = 40) -> List[Placed]:
    return [
        augment_sample(sample, FIT, settings, seed=0, epoch=0, index=index)
        for index in range(count)
    ]


def test_the_same_numbers_give_the_same_picture(sample: Sample) -> None:
    one = augment_sample(sample, FIT, ALL, seed=1, epoch=2, index=3)
    torch.rand(7)  # global random state is not looked at
    same = augment_sample(sample, FIT, ALL, seed=1, epoch=2, index=3)
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.boxes, same.boxes)
    assert one.key == same.key
    for other in ({"seed": 2}, {"epoch": 3}, {"index": 4}):
        numbers = {"seed": 1, "epoch": 2, "index": 3, **other}
        changed = augment_sample(sample, FIT, ALL, **numbers)
        assert changed.key != one.key
        assert not torch.equal(changed.image, one.image)


def test_the_defaults_change_nothing(sample: Sample) -> None:
    plain = fit_sample(sample, FIT)
    for placed in draws(sample, Augmentation(), 5):
        assert torch.equal(placed.image, plain.image)
        assert torch.equal(placed.boxes, plain.boxes)


def test_boxes_find_their_way_back(sample: Sample) -> None:
    for placed in draws(sample, Augmentation(flip=0.5, scale=(0.5, 0.9), place="anywhere")):
        back = to_original(placed.boxes, placed.placement)
        torch.testing.assert_close(back, sample.boxes, atol=1e-4, rtol=0)


def test_half_of_the_pictures_are_mirrored(sample: Sample) -> None:
    flipped = [placed.placement.flipped for placed in draws(sample, Augmentation(flip=0.5), 200)]
    assert 70 < sum(flipped) < 130
    assert not any(p.placement.flipped for p in draws(sample, Augmentation(flip=0.0)))


def test_the_canvas_stays_while_the_picture_scales(sample: Sample) -> None:
    plain = FIT.target((30, 40)).down
    scales = [placed.placement.scale / plain for placed in draws(sample, ALL)]
    assert 0.5 <= min(scales) < 0.7
    assert 1.3 < max(scales) <= 1.5
    assert all(placed.image.shape == (3, 64, 64) for placed in draws(sample, ALL, 5))


def test_a_scaled_picture_lies_in_the_middle_by_default(sample: Sample) -> None:
    settings = Augmentation(scale=(0.5, 0.5))
    (placed,) = draws(sample, settings, 1)
    assert placed.placement.offset == (16.0, 20.0)  # 32 x 24 pixels on 64 x 64
    settings = Augmentation(scale=(0.5, 0.5), scale_probability=0.0)
    assert draws(sample, settings, 1)[0].placement.offset == (0.0, 0.0)


def test_colours_stay_colours(sample: Sample) -> None:
    # The seed's jitter adds up to 255 grey levels and clips nothing.
    settings = ColourJitter(1.0, 0.1)
    for index in range(20):
        changed = jitter_colours(sample.image, settings, generator(0, 0, index))
        assert changed.dtype == torch.uint8
        difference = changed.int() - sample.image.int()
        assert difference.abs().max() <= 26
    assert torch.equal(
        jitter_colours(sample.image, ColourJitter(0.0, 0.1), generator(0, 0, 0)), sample.image
    )


def test_saturation_zero_is_grey_and_contrast_zero_is_flat(sample: Sample) -> None:
    grey = jitter_colours(sample.image, ColourJitter(1.0, saturation=(0, 0)), generator(0, 0, 0))
    assert torch.equal(grey[0], grey[1])
    red = torch.zeros(3, 2, 2, dtype=torch.uint8)
    red[0] = 100
    changed = jitter_colours(red, ColourJitter(1.0, saturation=(0, 0)), generator(0, 0, 0))
    assert (changed == 30).all()  # 0.299 * 100
    flat = jitter_colours(sample.image, ColourJitter(1.0, contrast=(0, 0)), generator(0, 0, 0))
    assert (flat == flat[0, 0, 0]).all()


def test_padding_keeps_its_colour(sample: Sample) -> None:
    settings = Augmentation(colour=ColourJitter(1.0, 0.5, (0.1, 0.2), (0.1, 0.2)))
    placed = draws(sample, settings, 1)[0]
    assert (placed.image[:, 48:] == torch.tensor(FIT.pad)[:, None, None]).all()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"augment.flip must be 0..1, got 2"):
        Augmentation(flip=2)
    with pytest.raises(ValueError, match=r"augment.scale must be \[low, high\] above 0"):
        Augmentation(scale=(1.2, 0.7))
    with pytest.raises(ValueError, match=r"colour.brightness must be 0 <= b < 1, got 1.0"):
        ColourJitter(brightness=1.0)
    with pytest.raises(ValueError, match=r"colour\.contrast"):
        ColourJitter(contrast=(2, 1))


def test_in_the_corner_small_pictures_lie_at_the_top_left(sample: Sample) -> None:
    (placed,) = draws(sample, Augmentation(scale=(0.5, 0.5), place="corner"), 1)
    assert placed.placement.offset == (0.0, 0.0)
    padding = torch.tensor(FIT.pad)[:, None, None]
    assert (placed.image[:, 24:] == padding).all()  # 32 x 24 pixels on 64 x 64
    assert (placed.image[:, :, 32:] == padding).all()


def test_in_the_corner_a_part_of_a_large_picture_is_drawn(sample: Sample) -> None:
    # AutoML: uniform between 0 and what is too much, per side; 1.2 * 48 = 57 rows are not.
    wide = draws(sample, Augmentation(scale=(1.2, 1.2), place="corner"))
    offsets = [placed.placement.offset for placed in wide]
    assert {y for _, y in offsets} == {0.0}
    assert {x for x, _ in offsets} == {float(-x) for x in range(13)}  # of 76 columns 64 are seen
    both = [p.placement.offset for p in draws(sample, Augmentation(scale=(2, 2), place="corner"))]
    assert len({y for _, y in both}) > 10
    assert min(y for _, y in both) >= -32


def test_jitter_of_automl_clips_boxes_and_drops_those_of_which_nothing_is_left() -> None:
    shown, cut = torch.zeros(3, 50, 50, dtype=torch.uint8), 0
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 50.0, 50.0]])
    for row, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        shown[:, y1:y2, x1:x2] = 100 + row
    sample = Sample(shown, "a", 1, boxes, torch.tensor([4, -1]))
    for placed in draws(sample, Augmentation(flip=0.5, scale=(0.1, 2.0), place="corner")):
        assert bool((placed.boxes >= 0).all())
        assert bool((placed.boxes <= 64).all())
        cut += placed.placement.cut
        assert placed.placement.cut + len(placed.boxes) == 2
        for box, label in zip(placed.boxes, placed.labels):
            x1, y1, x2, y2 = (round(float(value)) for value in box)
            inside = placed.image[0, y1 + 2 : max(0, y2 - 2), x1 + 2 : max(0, x2 - 2)]
            assert set(inside.flatten().tolist()) <= {100 if label == 4 else 101}
    assert cut > 0


def test_unknown_places_are_refused() -> None:
    with pytest.raises(ValueError, match=r"augment.place must be one of middle, .*, got 'left'"):
        Augmentation(place="left")
