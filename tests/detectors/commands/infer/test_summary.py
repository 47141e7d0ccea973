"""The last screen of a run."""

from __future__ import annotations

from typing import Tuple

import pytest

from data.formats import ImageDetections
from detectors.commands.infer.results import Tally, over
from detectors.commands.infer.summary import labels_table, notes, nothing_found, suggestion

NAMES = ("cat", "dog")


def image(file: str, *found: Tuple[int, float], side: int = 100) -> ImageDetections:
    labels, scores = [label for label, _ in found], [score for _, score in found]
    boxes = [(0.0, 0.0, 1.0, 1.0)] * len(found)
    return ImageDetections(file, 1, side, 50, tuple(labels), tuple(scores), tuple(boxes))


def tally(*images: ImageDetections, threshold: float = 0.0) -> Tally:
    result = Tally()
    for one in images:
        result.see(one)
        result.add(over(one, threshold))
    return result


def test_labels_come_with_boxes_images_and_best_score() -> None:
    found = tally(image("a", (1, 0.9), (1, 0.5), (0, 0.4)), image("b", (1, 0.7)))
    assert labels_table(found, NAMES).splitlines() == [
        "label  boxes  images  best",
        "dog        3       2  0.90",
        "cat        1       1  0.40",
    ]


def test_nothing_found_names_the_best_and_what_to_try() -> None:
    found = tally(image("beach.jpg", (1, 0.31), (0, 0.2)), image("b"), threshold=0.4)
    text = nothing_found(found, NAMES, 0.4)
    assert text == "0 boxes > 0.4; best is 0.31 (dog, beach.jpg): try --score .25"


@pytest.mark.parametrize(
    ("best", "tried"), [(0.31, 0.25), (0.399, 0.35), (0.06, 0.05), (0.0123, 0.011), (0.003, 0.002)]
)
def test_the_suggested_score_is_round_and_lower(best: float, tried: float) -> None:
    assert suggestion(best) == pytest.approx(tried)
    assert suggestion(best) < best


def test_a_score_at_the_threshold_is_not_over_it() -> None:
    assert over(image("a", (0, 0.5), (0, 0.4), (1, 0.3)), 0.4).scores == (0.5,)


def test_unreadable_images_are_counted_and_named() -> None:
    found = tally(image("a"))
    found.unreadable = [(f"{number}.jpg", "truncated") for number in range(7)]
    lines = notes(found, 512)
    assert lines[0] == "7 images could not be read:"
    assert lines[1] == "  0.jpg: truncated"
    assert lines[-1] == "  … and 2 more"


def test_a_panorama_gets_a_note_and_a_photo_does_not() -> None:
    assert "small objects are lost" in notes(tally(image("pano.jpg", side=12000)), 768)[0]
    assert notes(tally(image("photo.jpg", side=4000)), 768) == []
