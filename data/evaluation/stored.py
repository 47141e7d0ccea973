"""Detections that somebody stored: COCO's results, or the JSON that infer.py writes.

Numbers mean nothing without the list they were given by: where a file lists its pictures (infer.py
does, and a COCO results file with `<name>_images.json` beside it), pictures and classes are matched
by name; else by the dataset's own ids.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from data.annotations import Annotations
from data.evaluation.found import Found, checked, table
from data.evaluation.results import RESULTS_FILE, images_file

__all__ = ["Stored", "class_labels", "read_detections"]

RESULT_KEYS = ("image_id", "category_id", "bbox", "score")


class Stored(NamedTuple):
    """What was read."""

    annotations: Annotations
    """Of the pictures that were looked at, in the dataset's order."""
    found: Found
    """What was found in them."""
    left_out: Dict[str, int]
    """Detections by class name, of classes that the data does not have; they change no score."""


class Row(NamedTuple):
    """One detection."""

    place: int
    label: Optional[int]
    name: str
    score: float
    box: Tuple[float, float, float, float]


def class_labels(
    theirs: Sequence[Optional[str]], class_names: Sequence[str], source: str
) -> List[Optional[int]]:
    """The data's label of each class of a detector; None for one that the data does not have.

    Args:
        theirs: the detector's class names.
        class_names: the data's.
        source: of the detections, for the message.

    Raises:
        ValueError: the data has classes that the detector does not know.
    """
    unknown = [name for name in class_names if name not in theirs]
    if unknown:
        raise ValueError(
            f"{source}: {in_words([name for name in theirs if name])}; data:"
            f" {in_words(class_names)}; {', '.join(unknown[:3])} can never be found\n"
            f"to rename: data.classes_alias={{{unknown[0]}: …}}; to evaluate on some classes"
            " alone: data.classes=[…] data.skip_bad=true"
        )
    labels = {name: label for label, name in enumerate(class_names)}
    return [labels.get(name or "") for name in theirs]


def in_words(names: Sequence[str]) -> str:
    """`3 classes (cat, dog, cow)`, `20 classes (aeroplane … tvmonitor)`."""
    listed = ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}"
    return f"{len(names)} class{'es' if len(names) != 1 else ''} ({listed})"


def read_detections(path: Path, annotations: Annotations, category_ids: Sequence[int]) -> Stored:
    """Read a file of detections of a dataset.

    Args:
        path: COCO results, infer.py's `detections.json`, or a folder that has one or the other.
        annotations: of the dataset. Where the file lists its pictures, only those are judged; a
            COCO results file alone cannot say that a picture was not looked at.
        category_ids: of each label, in COCO results.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no detections, or pictures and classes that the dataset does not have.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no detections at {file}")
    content = read_json(file)
    reader = Reader(annotations, category_ids, file)
    index = images_file(file)
    try:
        if isinstance(content, dict) and isinstance(content.get("images"), list):
            places, rows = reader.plain(content)
        elif isinstance(content, list):
            places, rows = reader.coco(content, read_json(index) if index.is_file() else None)
        else:
            raise ValueError(f"{file} holds neither COCO results nor what infer.py writes")
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is not as it should be: {type(error).__name__} {error}") from None
    kept = sorted(set(places))
    new = {place: number for number, place in enumerate(kept)}
    taken = annotations if len(kept) == len(annotations) else annotations.take(kept)
    counted = [(new[row.place], row.label, row.score, *row.box) for row in rows]
    known = [row for row in counted if row[1] is not None]
    left_out = Counter(row.name for row in rows if row.label is None)
    return Stored(taken, checked(table(known), taken), dict(left_out))  # type: ignore[arg-type]


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


class Reader:
    """Turns a file's entries into rows.

    Args:
        annotations: of the dataset.
        category_ids: of each label.
        file: for messages.
    """

    def __init__(self, annotations: Annotations, category_ids: Sequence[int], file: Path) -> None:
        self.annotations = annotations
        self.category_ids = category_ids
        self.file = file
        self.places: Dict[str, List[int]] = {}
        for place, name in enumerate(annotations.names.tolist()):
            last = name.rpartition("/")[2]
            for known in {name, last, last.rpartition(".")[0]}:
                self.places.setdefault(known, []).append(place)

    def place(self, name: str) -> int:
        """Of a picture: by its path, else by its file's name, if only one has that."""
        last = name.rpartition("/")[2]
        for known in (name, last, last.rpartition(".")[0]):
            found = self.places.get(known, [])
            if len(found) == 1:
                return found[0]
        raise self.other_split(f"'{name}'")

    def other_split(self, what: str) -> ValueError:
        return ValueError(
            f"{self.file} has detections of {what}, which is not among the"
            f" {len(self.annotations)} images of the dataset: are they of another split?"
        )

    def plain(self, content: Mapping[str, Any]) -> Tuple[List[int], List[Row]]:
        """infer.py's JSON: the places of its pictures, and the detections."""
        names = list(content["classes"])
        labels = dict(zip(names, class_labels(names, self.annotations.class_names, str(self.file))))
        places, rows = [], []
        for image in content["images"]:
            places.append(self.place(image["file"]))
            for one in image["detections"]:
                x1, y1, x2, y2 = (float(one["box"][s]) for s in ("xmin", "ymin", "xmax", "ymax"))
                name, score = str(one["label"]), float(one["score"])
                rows.append(Row(places[-1], labels[name], name, score, (x1, y1, x2, y2)))
        return places, rows

    def coco(self, results: Sequence[Any], index: Optional[Any]) -> Tuple[List[int], List[Row]]:
        """COCO's results, with the list of their pictures and categories where there is one."""
        class_names = self.annotations.class_names
        if index is None:
            places = list(range(len(self.annotations)))
            by_id = {int(n): place for place, n in enumerate(self.annotations.image_ids)}
            names: Dict[Any, str] = dict(zip(self.category_ids, class_names))
        else:
            by_id = {image["id"]: self.place(image["file_name"]) for image in index["images"]}
            places = list(by_id.values())
            names = {entry["id"]: entry["name"] for entry in index["categories"]}
        mapped = class_labels(list(names.values()), class_names, str(self.file))
        labels = dict(zip(names, mapped))
        return places, list(self.coco_rows(results, by_id, labels, names))

    def coco_rows(
        self,
        results: Sequence[Any],
        places: Mapping[Any, int],
        labels: Mapping[Any, Optional[int]],
        names: Mapping[Any, str],
    ) -> Iterator[Row]:
        """Checked; an `image_id` that is text is a picture's name."""
        for number, one in enumerate(results):
            missing = [key for key in RESULT_KEYS if key not in one]
            if missing:
                raise ValueError(f"{self.file}: result {number} has no {', '.join(missing)}")
            image, category = one["image_id"], one["category_id"]
            place = self.place(image) if isinstance(image, str) else places.get(image)
            if place is None:
                raise self.other_split(f"image_id {image} (result {number})")
            if category not in names:
                raise ValueError(
                    f"{self.file}: result {number} is of category_id {category}, which the data"
                    f" does not have: {', '.join(f'{n} {name}' for n, name in names.items())}"
                )
            try:
                x, y, width, height = (float(value) for value in one["bbox"])
                score = float(one["score"])
            except (TypeError, ValueError):
                raise ValueError(
                    f"{self.file}: result {number} has bbox {one['bbox']} and score"
                    f" {one['score']}; they must be four numbers and one"
                ) from None
            corners = (x, y, x + width, y + height)
            yield Row(place, labels[category], names[category], score, corners)
