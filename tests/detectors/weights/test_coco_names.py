"""The 90 slots of COCO."""

from __future__ import annotations

import json
from pathlib import Path

from detectors.weights.coco_names import COCO_90


def test_ten_of_ninety_slots_are_unused() -> None:
    assert len(COCO_90) == 90
    unused = [slot + 1 for slot, name in enumerate(COCO_90) if name is None]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert len(set(COCO_90)) == 81


def test_names_by_category_id_are_coco_s() -> None:
    by_id = {slot + 1: name for slot, name in enumerate(COCO_90)}
    assert (by_id[1], by_id[13], by_id[44], by_id[90]) == (
        "person",
        "stop sign",
        "bottle",
        "toothbrush",
    )


def test_names_equal_those_of_the_annotations(shared_data: Path) -> None:
    for path in (shared_data / "coco").rglob("*.json"):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and "categories" in content:
            found = {row["id"]: row["name"] for row in content["categories"]}
            assert found == {i + 1: name for i, name in enumerate(COCO_90) if name is not None}
