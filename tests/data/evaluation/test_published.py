"""Detections with known scores: every published figure within its stated tolerance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple
from xml.etree import ElementTree

import numpy as np
import pytest

from data.annotations import Annotations, BoxList, pack
from data.coco import read_coco
from data.evaluation import coco, voc
from data.evaluation.found import Found
from data.evaluation.found import table as found_table
from data.evaluation.ranking import Rule, average, average_precision
from data.evaluation.results import write_results
from data.evaluation.scores import evaluate
from data.evaluation.stored import read_detections

Row = Tuple[str, bool, Tuple[float, float, float, float]]
RULES: Dict[str, Rule] = {"eleven_point": voc.ap_07, "every_point": voc.ap_12}


@pytest.fixture(scope="session")
def references(shared_data: Path) -> Path:
    """The folder of stored detections."""
    folder = shared_data / "metrics_ref"
    if not folder.is_dir():
        pytest.skip(f"no stored detections at {folder}")
    return folder


def expected(folder: Path) -> Any:
    return json.loads((folder / "expected.json").read_text())


def pack_rows(images: Dict[str, List[Row]], classes: Sequence[str]) -> Annotations:
    entries = [
        BoxList(
            name,
            place,
            (1, 1),
            [box for _, _, box in rows],
            [classes.index(label) for label, _, _ in rows],
            [difficult for _, difficult, _ in rows],
            [False] * len(rows),
            [],
        )
        for place, (name, rows) in enumerate(images.items())
    ]
    return pack(entries, classes)


def xml_rows(path: Path) -> List[Row]:
    """VOC's boxes as continuous pixels."""
    rows = []
    for thing in ElementTree.parse(path).getroot().findall("object"):
        box = thing.find("bndbox")
        assert box is not None
        x1, y1, x2, y2 = (float(box.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax"))
        difficult = thing.findtext("difficult", "0") == "1"
        rows.append((thing.findtext("name", ""), difficult, (x1 - 1, y1 - 1, x2, y2)))
    return rows


def mean_ap(truth: Annotations, found: Found, iou: float, rule: Rule, **options: bool) -> float:
    results = voc.rankings(truth, found, [iou], **options)
    return average([average_precision(result, 0, rule) for result in results])


@pytest.mark.parametrize("iou", ["0.1", "0.3", "0.5", "0.75"])
@pytest.mark.parametrize("rule", RULES)
def test_voc_case1_to_ten_digits(references: Path, rule: str, iou: str) -> None:
    folder = references / "voc_case1"
    wanted = expected(folder)
    images: Dict[str, List[Row]] = {}
    rows: List[List[float]] = []
    for place, path in enumerate(sorted((folder / "gts").glob("*.txt"))):
        values = [line.split() for line in path.read_text().splitlines()]
        corners = [[float(v) for v in line[1:]] for line in values]
        images[path.stem] = [("object", False, (x, y, x + w, y + h)) for x, y, w, h in corners]
        for line in (folder / "dets" / path.name).read_text().splitlines():
            score, x, y, w, h = (float(value) for value in line.split()[1:])
            rows.append([place, 0, score, x, y, x + w, y + h])
    truth = pack_rows(images, ["object"])
    ap = mean_ap(truth, found_table(rows), float(iou), RULES[rule], plus_one=True)
    assert ap == pytest.approx(wanted[rule][iou], abs=wanted["tolerance"])


@pytest.mark.parametrize("iou", ["0.5", "0.75"])
@pytest.mark.parametrize("rule", RULES)
def test_voc_toy_cat_in_percent(references: Path, rule: str, iou: str) -> None:
    folder = references / "voc_toy_cat"
    wanted = expected(folder)
    images = {path.stem: xml_rows(path) for path in sorted((folder / "Annotations").glob("*.xml"))}
    classes = sorted({label for rows in images.values() for label, _, _ in rows} | {"cat"})
    rows = []
    for place, name in enumerate(images):
        for line in (folder / "detections" / f"{name}.txt").read_text().splitlines():
            label, score, x1, y1, x2, y2 = line.split()
            corners = [float(x1) - 1, float(y1) - 1, float(x2), float(y2)]
            rows.append([place, classes.index(label), float(score), *corners])
    results = voc.rankings(pack_rows(images, classes), found_table(rows), [float(iou)])
    ap = 100 * average_precision(results[classes.index("cat")], 0, RULES[rule])
    assert ap == pytest.approx(wanted["published_percent"][iou][rule], abs=0.005)
    assert ap == pytest.approx(wanted["py_faster_rcnn_voc_eval"][iou][rule], abs=0.00005)


def voc100(folder: Path) -> Tuple[Annotations, Found]:
    classes = sorted(expected(folder)["ap"]["voc07"])
    images = {path.stem: xml_rows(path) for path in sorted((folder / "Annotations").glob("*.xml"))}
    places = {name: place for place, name in enumerate(images)}
    rows = []
    for line in (folder / "detections.txt").read_text().splitlines():
        name, label, score, x1, y1, x2, y2 = line.split()
        corners = [float(x1) - 1, float(y1) - 1, float(x2), float(y2)]
        rows.append([places[name], classes.index(label), float(score), *corners])
    return pack_rows(images, classes), found_table(rows)


def test_voc100_leaves_as_comp4_as_it_came(references: Path, tmp_path: Path) -> None:
    truth, found = voc100(references / "voc100")
    write_results(tmp_path, truth, found, range(1, len(truth.class_names) + 1))
    written = set()
    for path in tmp_path.glob("comp4_det_test_*.txt"):
        label = path.stem.rpartition("_")[2]
        for line in path.read_text().splitlines():
            name, *values = line.split()
            written.add((name, label, *(float(value) for value in values)))
    came = set()
    for line in (references / "voc100" / "detections.txt").read_text().splitlines():
        name, label, *values = line.split()
        came.add((name, label, *(float(value) for value in values)))
    assert written == came


@pytest.mark.parametrize(("flavour", "key"), [("voc07", "voc07"), ("voc12", "area")])
def test_voc100_class_by_class_as_py_faster_rcnn(references: Path, flavour: str, key: str) -> None:
    folder = references / "voc100"
    wanted = expected(folder)
    scores = evaluate(*voc100(folder), [flavour], resamples=0)
    for row in scores.classes:
        value = row.values[f"AP50_{flavour}"].value
        assert value == pytest.approx(wanted["ap"][key][row.name], abs=1e-12), row.name
    total = scores.values[f"AP50_{flavour}"].value
    assert total == pytest.approx(wanted["mAP"][key], abs=1e-12)


def test_coco100_to_six_digits(references: Path) -> None:
    folder = references / "coco100"
    wanted = expected(folder)
    content = json.loads((folder / "gt.json").read_text())
    labels = {entry["id"]: place for place, entry in enumerate(content["categories"])}
    images = {
        image["id"]: BoxList(str(image["id"]), image["id"], (1, 1), [], [], [], [], [])
        for image in content["images"]
    }
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        image = images[entry["image_id"]]
        image.boxes.append((x, y, x + width, y + height))
        image.labels.append(labels[entry["category_id"]])
        image.difficult.append(False)
        image.crowd.append(bool(entry["iscrowd"]))
        image.areas.append(entry["area"])
    truth = pack(list(images.values()), [entry["name"] for entry in content["categories"]])
    found = read_detections(folder, truth, list(labels)).found
    assert (len(truth), len(truth.boxes), len(found)) == (100, 830, 734)
    statistics = coco.evaluate(truth, found).statistics
    assert list(statistics) == wanted["order"].split()
    np.testing.assert_allclose(
        list(statistics.values()), wanted["published"], rtol=0, atol=wanted["tolerance"]
    )


@pytest.fixture
def yolox(references: Path, shared_data: Path) -> Tuple[Annotations, Found]:
    """COCO's val images and what a YOLOX-nano found in them."""
    splits, _, ids = read_coco(shared_data / "coco", {"val": ["val2017"]})
    stored = read_detections(references / "yolox_coco_val", splits["val"], ids)
    return stored.annotations, stored.found


def test_yolox_on_coco_val(
    yolox: Tuple[Annotations, Found], references: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scores = evaluate(*yolox, ["coco"], resamples=0)
    statistics = [scores.values[f"{name}_coco"].value for name in coco.STATISTICS]
    stored = expected(references / "yolox_coco_val")["stats"]
    np.testing.assert_allclose(statistics, stored, rtol=0, atol=1e-12)
    assert capfd.readouterr().out == ""  # pycocotools prints


def test_our_101_points_are_pycocotools(yolox: Tuple[Annotations, Found]) -> None:
    result = coco.evaluate(*yolox)
    ours = [
        float(np.mean([average_precision(one, level, coco.ap_101) for level in range(10)]))
        for one in result.rankings
    ]
    np.testing.assert_allclose(ours, result.class_ap, rtol=0, atol=1e-12)
    ours = [average_precision(one, 0, coco.ap_101) for one in result.rankings]
    np.testing.assert_allclose(ours, result.class_ap50, rtol=0, atol=1e-12)
