"""Images into batches, in order, with what cannot be read left out and named."""

from __future__ import annotations

import threading
from typing import List, Optional

import pytest
import torch

from data.fitting import Fit
from data.reading import UnreadableImageError
from data.sample import Sample
from detectors.commands.infer.batches import batches, prepare


class Pictures:
    """Image i is filled with the value i; the numbers in `broken` are unreadable."""

    def __init__(self, count: int, broken: Optional[List[int]] = None) -> None:
        self.names = [f"{index}.jpg" for index in range(count)]
        self.broken = broken or []
        self.read = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        self.read += 1
        if index in self.broken:
            raise UnreadableImageError("truncated")
        image = torch.full((3, 8, 8), index, dtype=torch.uint8)
        return Sample(image, self.names[index], index + 1)


@pytest.mark.parametrize("read_ahead", [True, False])
def test_batches_keep_the_order_and_leave_broken_images_out(read_ahead: bool) -> None:
    pictures = Pictures(6, broken=[1, 5])
    prepare_one = prepare(pictures, Fit((8, 8)))
    found = list(batches(range(6), prepare_one, 2, read_ahead=read_ahead))
    assert [[item.sample.name for item in batch.items] for batch in found] == [
        ["0.jpg", "2.jpg"],
        ["3.jpg", "4.jpg"],
        [],
    ]
    assert [[bad.index for bad in batch.unreadable] for batch in found] == [[1], [], [5]]
    assert found[0].images[:, 0, 0, 0].tolist() == [0, 2]
    assert found[0].unreadable[0].reason == "truncated"


def test_no_more_images_are_read_than_will_soon_be_needed() -> None:
    pictures = Pictures(100)
    found = batches(range(100), prepare(pictures, Fit((8, 8))), 4)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert pictures.read <= 4 + 5 + 1


def test_the_reading_thread_ends_with_the_loop() -> None:
    found = batches(range(9), prepare(Pictures(9), Fit((8, 8))), 2)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def test_a_fault_of_the_program_is_not_taken_for_a_broken_image() -> None:
    class Faulty(Pictures):
        def __getitem__(self, index: int) -> Sample:
            raise KeyError("ours")

    with pytest.raises(KeyError):
        list(batches([0], prepare(Faulty(1), Fit((8, 8))), 1))
