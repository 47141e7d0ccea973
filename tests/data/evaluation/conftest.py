"""Datasets of a few boxes, written down in a line."""

from __future__ import annotations

from typing import Callable, List, Sequence, Tuple

import pytest

from data.annotations import Annotations, BoxList, pack

Box = Tuple[float, float, float, float]
MakeTruth = Callable[..., Annotations]


@pytest.fixture
def make_truth() -> MakeTruth:
    """(image, label, box, kind) rows -> annotations; kind is "", "difficult" or "crowd"."""

    def make(
        rows: Sequence[Tuple[int, int, Box, str]], images: int = 1, classes: str = "ab"
    ) -> Annotations:
        lists: List[BoxList] = []
        for place in range(images):
            mine = [row for row in rows if row[0] == place]
            lists.append(
                BoxList(
                    f"{place}.jpg",
                    10 * (images - place),  # ids fall where places rise
                    (100, 100),
                    [box for _, _, box, _ in mine],
                    [label for _, label, _, _ in mine],
                    [kind == "difficult" for _, _, _, kind in mine],
                    [kind == "crowd" for _, _, _, kind in mine],
                    [],
                )
            )
        return pack(lists, list(classes))

    return make
