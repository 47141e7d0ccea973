"""Category ids of a detector's labels: in records, and of files that have none of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import pytest
import torch

from detectors import efficientdet
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import binding, load_checkpoint, load_weights, make_record, save
from detectors.weights.category_ids import coco_ids, read_ids
from detectors.weights.coco_names import COCO_90
from detectors.weights.source import Source

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

NAMES = ("cat", None, "dog")
IDS = (17, None, 18)
HOLES = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers up to 90 that no category of COCO's annotations has."""


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    """A small detector of three labels."""
    torch.manual_seed(0)
    return efficientdet("d0", num_classes=3, image_size=64)


def test_cocos_ids_leave_the_holes_out() -> None:
    official = tuple(number for number in range(1, 91) if number not in HOLES)
    assert coco_ids([name for name in COCO_90 if name]) == official
    slots = coco_ids(COCO_90)
    assert slots is not None
    assert [slots[label] for label in (0, 11, 12, 89)] == [1, None, 13, 90]
    assert coco_ids(["dog", None, "person"]) == (18, None, 1)
    assert coco_ids(["dog", "unicorn"]) is None
    assert coco_ids(None) is None


@pytest.mark.parametrize(
    ("origin", "num_classes", "ids"),
    [
        ("detectron2", 80, coco_ids([name for name in COCO_90 if name])),
        ("detectron2", 20, None),  # VOC has no ids
        ("effdet", 90, coco_ids(COCO_90)),
        ("automl", 90, coco_ids(COCO_90)),
        ("effdet", 80, None),
    ],
)
def test_weights_of_others_have_cocos_ids_where_they_have_its_classes(
    origin: str, num_classes: int, ids: Optional[Tuple[Optional[int], ...]]
) -> None:
    source = Source(Path("a.pth"), origin, "efficientdet", {}, "", "")
    assert binding.category_ids(source, num_classes) == ids


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_ids_are_loaded_as_they_were_saved(
    model: EfficientDet, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")
    path = save(model, tmp_path / f"a{suffix}", classes=NAMES, category_ids=IDS)
    _, report = load_checkpoint(path)
    assert (report.class_names, report.category_ids) == (NAMES, IDS)
    assert report.extra == {}
    assert load_weights(model, path, classes=NAMES).category_ids == IDS
    none = save(model, tmp_path / f"b{suffix}", classes=NAMES)
    assert load_checkpoint(none)[1].category_ids is None


def test_a_new_head_has_no_ids_of_the_old_one(model: EfficientDet, tmp_path: Path) -> None:
    path = save(model, tmp_path / "a.pt", classes=NAMES, category_ids=IDS)
    target = efficientdet("d0", num_classes=2, image_size=64)
    for head in ("new", "map"):
        assert load_weights(target, path, head=head, classes=("hen", "dog")).category_ids is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([17, None], "category_ids has 2 ids, the model 3 classes"),
        ([17, None, 17], r"must differ, but \[17\] occur more than once"),
        ([17, None, None], "has None for label 2, whose name is dog"),
        ([17, 2, 18], "has 2 for label 1, whose name is None"),
        ([17, None, "18"], "must be whole numbers or None"),
    ],
)
def test_ids_that_fit_no_classes_are_refused(
    model: EfficientDet, tmp_path: Path, ids: List[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_record(model, NAMES, category_ids=ids)
    path = save(model, tmp_path / "a.pt", classes=NAMES)
    content = torch.load(path, weights_only=True)
    content["detectors"]["category_ids"] = ids
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"record is not usable: category_ids.*{message[-20:]}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("ids", "names", "expected"),
    [
        ([18, 1], ("dog", "person"), (18, 1)),  # a class after another
        ([3, 1], ("a", None, "b"), (1, None, 3)),  # slots: in the data's order, without the hole
        (None, ("dog", "person"), None),
    ],
)
def test_records_of_earlier_trainings_are_read(
    ids: Optional[Sequence[int]],
    names: Sequence[Optional[str]],
    expected: Optional[Tuple[Optional[int], ...]],
) -> None:
    assert read_ids(ids, names, len(names)) == expected
