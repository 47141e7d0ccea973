"""What was found in a dataset as files that others read: COCO's results and VOC's "comp4".

    detections.json               [{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...]
    detections_images.json        the pictures and categories those numbers mean
    comp4_det_test_<class>.txt    <image> <score> <xmin> <ymin> <xmax> <ymax>

Category and image ids are the dataset's own. Corners in comp4 files are VOC's, counted from 1 with
inclusive maxima: of continuous corners only the minima get +1. Scores are written in full.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

from data.annotations import Annotations
from data.evaluation.found import Found
from data.formats.coco import categories, result
from data.formats.stream import open_part, publish
from data.formats.voc import class_file, line

__all__ = ["RESULTS_FILE", "comp4_names", "images_file", "write_coco", "write_results"]

RESULTS_FILE = "detections.json"


def write_results(
    folder: Path,
    annotations: Annotations,
    found: Found,
    category_ids: Sequence[int],
) -> None:
    """Write all three kinds of file; each takes its name when it is complete.

    Args:
        folder: where to; it exists.
        annotations: of the pictures that were looked at, those where nothing was found too.
        found: in them; `data.evaluation.found.rounded` boxes come back unchanged.
        category_ids: of each label.
    """
    write_coco(folder, annotations, found, category_ids)
    write_comp4(folder, annotations, found)


def images_file(results: Path) -> Path:
    """Where the pictures and categories of a results file are listed."""
    return results.with_name(f"{results.stem}_images.json")


def write_coco(
    folder: Path,
    annotations: Annotations,
    found: Found,
    category_ids: Sequence[int],
    name: str = RESULTS_FILE,
) -> None:
    """Write COCO's results and the list of their pictures; arguments as `write_results`, and the
    results' name.

    pycocotools loads them with `COCO(detections_images.json).loadRes(detections.json)`.
    """
    write_json(folder / name, coco_results(annotations, found, category_ids))
    about: Dict[str, Any] = {
        "info": {},
        "categories": categories(category_ids, annotations.class_names),
        "annotations": [],
    }
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, name, (height, width) in zip(
            annotations.image_ids.tolist(), annotations.names.tolist(), annotations.sizes.tolist()
        )
    ]
    file = images_file(folder / name)
    write_json(file, images, json.dumps(about)[:-1] + ', "images": [', "]}")


def coco_results(
    annotations: Annotations, found: Found, category_ids: Sequence[int]
) -> List[Dict[str, Any]]:
    """COCO's results; boxes to 0.001 pixels."""
    columns = (found.images, found.labels, found.scores, found.boxes)
    return [
        result(int(annotations.image_ids[image]), int(category_ids[label]), score, box)
        for image, label, score, box in zip(*(part.tolist() for part in columns))
    ]


def write_json(path: Path, items: Sequence[Any], head: str = "[", tail: str = "]") -> None:
    """A list, an item per line."""
    with open_part(path, errors="backslashreplace") as file:
        text = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
        file.write(f"{head}\n{text}\n{tail}\n")
    publish(path)


def write_comp4(folder: Path, annotations: Annotations, found: Found) -> None:
    """A file for every class, empty where nothing was found: the devkit wants them all."""
    names = comp4_names(annotations)
    for label, class_name in enumerate(annotations.class_names):
        mine = found.take(found.labels == label)
        path = folder / class_file(class_name)
        with open_part(path) as file:
            for image, score, box in zip(
                mine.images.tolist(), mine.scores.tolist(), mine.boxes.tolist()
            ):
                file.write(line(names[image], score, box))
        publish(path)


def comp4_names(annotations: Annotations) -> List[str]:
    """What comp4 files call the pictures: `000001` of `VOC2007/JPEGImages/000001.jpg`, as VOC's
    lists do; the whole path without extension where two pictures differ in nothing else.
    """
    paths = [str(name).replace(" ", "%20") for name in annotations.names]
    stems = [path.rpartition("/")[2].rpartition(".")[0] for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    whole = [path.rpartition(".")[0] for path in paths]
    return whole if len(set(whole)) == len(whole) else paths
