"""Four pictures on one canvas: every box lies on its own pixels."""

from __future__ import annotations

import pickle
from typing import Any, List, Sequence, Tuple

import pytest
import torch
from torch import Tensor

from data.augmentation import Augmentation
from data.collate import Placed, collate, to_original
from data.datamodule import DetectionData
from data.fitting import Fit
from data.generated import GeneratedImages
from data.mosaic import make_mosaic, partners
from data.placed_images import TrainingImages
from data.reading import UnreadableImageError
from data.sample import Sample
from data.sampler import Order, StepSampler

SIZE = (96, 128)
FIT = Fit(SIZE)
MARK = 20  # of green, one more for each picture; the padding's is none of them
BOXES = torch.tensor([[8.0, 12.0, 28.0, 30.0], [40.0, 20.0, 76.0, 56.0]])


def plain(number: int, labels: Sequence[int] = ()) -> Sample:
    """60x80 with a green of its own; its first object is red besides, its second blue."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[1] = MARK * (number + 1)
    for channel, (x1, y1, x2, y2) in zip((0, 2), BOXES.int().tolist()):
        image[channel, y1:y2, x1:x2] = 200
    marks = torch.tensor(labels or (2 * number, 2 * number + 1))
    return Sample(image, f"{number}.png", number, BOXES, marks)


def mosaics(settings: Augmentation, count: int = 30) -> List[Placed]:
    samples = [plain(number) for number in range(4)]
    return [make_mosaic(samples, FIT, settings, seed=0, epoch=0, index=i) for i in range(count)]


def extent(mask: Tensor) -> List[int]:
    """Smallest box around the pixels of a (H, W) mask; zeros where there is none."""
    if not mask.any():
        return [0, 0, 0, 0]
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return [int(end) for end in ends]


def seen(placed: Placed, number: int) -> Tensor:
    """(H, W): the pixels of a picture."""
    return placed.image[1] == MARK * (number + 1)


def test_boxes_lie_on_their_own_pixels() -> None:
    found = 0
    for placed in mosaics(Augmentation(flip=0.5, scale=(0.4, 1.5))):
        labels = placed.labels.tolist()
        assert len(labels) == len(set(labels))
        for label in range(8):
            mask = seen(placed, label // 2) & (placed.image[(0, 2)[label % 2]] > 100)
            if label in labels:
                box = placed.boxes[labels.index(label)].tolist()
                # sizes are truncated to pixels and edges fall between them: each may cost one
                assert all(abs(a - b) < 2 for a, b in zip(extent(mask), box))
                found += 1
            else:
                x1, y1, x2, y2 = extent(mask)
                assert min(x2 - x1, y2 - y1) < 2  # nothing, or what that leaves
    assert found > 100


def test_ignored_regions_are_cut_and_kept_as_boxes_are() -> None:
    ignored = [plain(0), plain(1, (-1, -1)), plain(2, (4, -1)), plain(3)]
    marks = torch.tensor([0, 1, -1, -1, 4, -1, 6, 7])
    settings = Augmentation(flip=0.5, scale=(0.5, 1.5))
    for index, placed in enumerate(mosaics(settings)):
        other = make_mosaic(ignored, FIT, settings, seed=0, epoch=0, index=index)
        assert torch.equal(other.boxes, placed.boxes)
        assert torch.equal(other.labels, marks[placed.labels])


def test_each_picture_keeps_to_its_quadrant() -> None:
    for placed in mosaics(Augmentation(scale=(0.5, 2.0))):
        left, right, below_left, below_right = (extent(seen(placed, n)) for n in range(4))
        assert left[0] < left[2] <= right[0]
        assert below_left[0] < below_left[2] <= below_right[0]
        assert max(left[3], right[3]) <= min(below_left[1], below_right[1])
        assert bool((placed.boxes >= 0).all())
        assert bool((placed.boxes <= torch.tensor([128.0, 96.0] * 2)).all())
        assert placed.placement.cut + len(placed.boxes) == 8


def test_a_small_picture_touches_the_point_and_the_rest_is_padding() -> None:
    samples = [plain(number) for number in range(4)]
    fit = Fit((100, 100), pad=(1, 2, 3))  # 80x60 pictures fit as 75x100 and get 15x20 pixels
    placed = make_mosaic(samples, fit, Augmentation(scale=(0.2, 0.2)), seed=3, epoch=0, index=0)
    known = placed.image[0] != 1
    x1, y1, x2, y2 = extent(known)
    assert (x2 - x1, y2 - y1) == (40, 30)
    assert int(known.sum()) == 40 * 30
    assert 25 <= x1 + 20 <= 75
    assert 25 <= y1 + 15 <= 75


def test_a_mosaic_leads_back_to_itself() -> None:
    (placed,) = mosaics(Augmentation(), 1)
    placement = placed.placement
    assert placement.name == "0.png + 1.png + 2.png + 3.png"
    assert (placement.image_id, placement.original_size) == (-1, SIZE)
    assert torch.equal(to_original(placed.boxes, placement), placed.boxes)


def test_the_probability_is_that_of_a_mosaic() -> None:
    drawn = [partners(0.3, 5, seed=0, epoch=2, index=index) for index in range(300)]
    assert 60 < sum(bool(three) for three in drawn) < 120
    others = {number for three in drawn for number in three}
    assert others == set(range(5))
    assert not any(partners(0.0, 5, seed=0, epoch=0, index=index) for index in range(50))
    assert all(partners(1.0, 5, seed=0, epoch=0, index=index) for index in range(50))


ALL = Augmentation(flip=0.5, scale=(0.5, 1.5), mosaic=0.5)


class Spoiled(GeneratedImages):
    """Some pictures turn bad while training."""

    bad: Tuple[int, ...] = ()

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise UnreadableImageError(f"{self.names[index]}: truncated")
        return super().__getitem__(index)


def training(settings: Augmentation = ALL, **more: Any) -> TrainingImages:
    return TrainingImages(Spoiled(7, (32, 48)), Fit((32, 32)), settings, 5, **more)


def is_mosaic(placed: Placed) -> bool:
    return " + " in placed.placement.name


def test_the_draw_decides_and_nothing_else() -> None:
    images = training()
    sent = pickle.loads(pickle.dumps(images))  # as to a worker, which begins anywhere
    for draw in reversed(range(20)):
        torch.rand(3)
        one, other = images[draw], sent[draw]
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.boxes, other.boxes)
        assert (one.key, one.placement) == (other.key, other.placement)
        assert one.image.shape == (3, 32, 32)
    assert {is_mosaic(images[draw]) for draw in range(20)} == {True, False}


def test_pictures_that_become_none_are_as_without_mosaics() -> None:
    images, without = training(), training(Augmentation(flip=0.5, scale=(0.5, 1.5)))
    for draw in range(20):
        one, other = images[draw], without[draw]
        assert one.key == other.key
        assert is_mosaic(one) or torch.equal(one.image, other.image)


def test_the_last_pictures_of_a_run_are_no_mosaics() -> None:
    always = Augmentation(mosaic=1.0, mosaic_close=0.25)
    data = DetectionData(
        GeneratedImages(7, (32, 48)),
        None,
        fit=Fit((32, 32)),
        augmentation=always,
        seed=5,
        micro_batch_size=2,
        images_per_step=4,
        steps=8,
    )
    batches = list(data.train_dataloader())
    made = [[" + " in place.name for place in batch.placements] for batch in batches]
    assert made == [[True, True]] * 12 + [[False, False]] * 4  # 8 steps of two batches each
    order = Order(7, 5)
    drawn = [is_mosaic(data.training[order.draw(at)]) for at in range(32)]
    assert drawn == [True] * 24 + [False] * 8
    rest = list(StepSampler(order, 4, 8, start=5))  # of a run that goes on at its sixth step
    images = torch.stack([data.training[draw].image for draw in rest])
    assert torch.equal(images, torch.cat([batch.images for batch in batches[10:]]))


def test_an_end_that_nobody_knows_is_refused() -> None:
    images, settings = GeneratedImages(2, (32, 32)), Augmentation(mosaic=1.0, mosaic_close=0.1)
    with pytest.raises(ValueError, match=r"augment.mosaic_close=0.1 .*: give steps="):
        DetectionData(images, None, fit=FIT, augmentation=settings, seed=0)
    DetectionData(images, None, fit=FIT, augmentation=Augmentation(mosaic=1.0), seed=0)


def test_a_partner_that_cannot_be_read_is_replaced_or_stops() -> None:
    always = Augmentation(mosaic=1.0)
    images = training(always, skip_bad=True)
    draw = next(d for d in range(7) if 3 in images.partners(d) and d != 3)
    assert isinstance(images.dataset, Spoiled)
    assert len(images.dataset.annotations) == 7  # made while all can be read
    images.dataset.bad = (3,)
    bad = "generated_000003.png"
    one, again = images[draw].placement, images[draw].placement
    assert one == again
    assert one.instead_of == bad
    assert bad not in one.name
    assert one.name.count(" + ") == 3
    images.skip_bad = False
    with pytest.raises(RuntimeError, match=f"{bad}: truncated\ndata.skip_bad=true"):
        images[draw]


def test_boxes_without_room_are_counted() -> None:
    images = training(Augmentation(mosaic=1.0))
    items = [images[draw] for draw in range(4)]
    batch = collate(items, max_boxes=2)
    assert batch.boxes.shape == (4, 2, 4)
    assert batch.overflow == sum(max(0, len(item.boxes) - 2) for item in items) > 0


def test_each_picture_gets_its_own_first_change() -> None:
    keys: List[int] = []

    def first(sample: Sample, key: int) -> Sample:
        keys.append(key)
        return Sample(sample.image, sample.name, sample.image_id)  # takes all boxes away

    images = training(Augmentation(mosaic=1.0), first=first)
    placed = images[0]
    chosen = (0, *images.partners(0))
    assert len(set(keys)) == 4
    assert keys[0] == placed.key
    assert placed.placement.cut == sum(len(images.dataset[index].boxes) for index in chosen)
