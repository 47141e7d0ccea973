"""COCO's annotation files: boxes x, y, width, height and category ids with holes end here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from data.annotations import Annotations, BoxList, pack
from data.coco_file import annotated_size, read_file, whole_number
from data.coco_layout import find_file
from data.coco_pictures import find_pictures
from data.defects import (
    DefectReport,
    keep_box,
    note_aliases,
    note_classes,
    note_same_names,
    note_shared,
    note_shares,
)
from data.drawn_split import draw, how_drawn
from data.probing import image_size

__all__ = ["CocoSplits", "read_coco"]

ANY_SIZE = (2**31, 2**31)


class CocoSplits(NamedTuple):
    """What `read_coco` found; `data.annotations.AnnotatedImages` makes a dataset of a split."""

    splits: Dict[str, Annotations]
    """By the names that were asked for; all with the same classes."""
    report: DefectReport
    """What is wrong with them."""
    category_ids: Tuple[int, ...]
    """Of each label: what `category_id` is in results."""


class Part(NamedTuple):
    """A set's file, read, and where its pictures are."""

    where: str
    content: Dict[str, Any]
    images: Path
    """Folder."""
    places: Dict[str, str]
    """`file_name` -> path below it."""


def read_coco(
    root: Path,
    splits: Mapping[str, Sequence[str]],
    *,
    classes: Optional[Sequence[str]] = None,
    aliases: Optional[Mapping[str, str]] = None,
    seed: int = 0,
    validation: float = 0.2,
) -> CocoSplits:
    """Read the annotations of one or more splits; no picture is opened unless its size is missing.

    Crowds are kept: evaluation needs them, and samples have them as regions to ignore.

    Args:
        root: folder of one of the layouts of `data.coco_layout`.
        splits: name -> sets, such as `{"train": ["train2017"], "val": ["val2017"]}`. The first is
            the one that is trained on.
        classes: the names by label; the file's categories by rising id where None.
        aliases: category's name -> class to take it for; the lowest id of a class is its own.
        seed: of the train/val split that is drawn where there is one file for all.
        validation: share of it that is "val".

    Raises:
        FileNotFoundError: no such file, or images that it names are not there.
        ValueError: a file that is no COCO annotation file, or sets whose categories differ.
    """
    report = DefectReport()
    reader = CocoReader(root, seed, validation, report)
    parts = {split: [reader.part(name) for name in sets] for split, sets in splits.items()}
    table = one_table([part for sets in parts.values() for part in sets])
    note_same_names(table, report)
    note_aliases(aliases or {}, table.values(), report)
    categories = {number: (aliases or {}).get(name, name) for number, name in table.items()}
    ids = {name: number for number, name in sorted(categories.items(), reverse=True)}
    own = list(dict.fromkeys(categories[number] for number in sorted(categories)))
    names = list(classes) if classes is not None else own
    absent = [name for name in names if name not in ids]
    if absent:
        raise ValueError(
            f"data.classes {absent} are not among the {len(ids)} categories of"
            f" {next(iter(parts.values()))[0].where}: {', '.join(sorted(ids))}"
        )
    labels = {number: names.index(name) for number, name in categories.items() if name in names}
    tables = {}
    for split, sets in parts.items():
        lists = [one for part in sets for one in box_lists(root, part, labels, categories, report)]
        tables[split] = pack(lists, names)
    first, trained = next(iter(tables.items()))
    note_classes(names, {names[label] for label in trained.labels.tolist()}, first, report)
    note_shares({split: table.boxes for split, table in tables.items()}, report)
    note_shared({split: table.names.tolist() for split, table in tables.items()}, report)
    return CocoSplits(tables, report, tuple(ids[name] for name in names))


class CocoReader:
    """Reads each annotation file once, however many sets are drawn from it.

    Args:
        root: of the dataset.
        seed, validation: see `read_coco`.
        report: where notes go.
    """

    def __init__(self, root: Path, seed: int, validation: float, report: DefectReport) -> None:
        self.root = root
        self.seed = seed
        self.validation = validation
        self.report = report
        self.read: Dict[Path, Dict[str, Any]] = {}
        self.found: Dict[Path, Tuple[Path, Dict[str, str]]] = {}
        """By annotation file: where its pictures are; see `find_pictures`."""

    def part(self, name: str) -> Part:
        """Find and read a set's file."""
        file = find_file(self.root, name)
        first_time = file.path not in self.read
        if first_time:
            self.read[file.path] = read_file(file.path)
        content = self.read[file.path]
        where = file.path.relative_to(self.root).as_posix()
        names = [entry["file_name"] for entry in content["images"]]
        if file.path not in self.found:
            self.found[file.path] = find_pictures(file.path, file.images, names)
        if file.drawn:
            content = self.drawn(content, name)
            if first_time and name != "all":
                self.report.notes.append(
                    how_drawn(f"one file, {where}", self.seed, self.validation)
                )
        return Part(where, content, *self.found[file.path])

    def drawn(self, content: Dict[str, Any], name: str) -> Dict[str, Any]:
        """A set's pictures and their boxes; boxes of no picture come with all sets but val."""
        files = [entry["file_name"] for entry in content["images"]]
        members = set(draw(files, name, self.seed, self.validation))
        images = [entry for entry in content["images"] if entry["file_name"] in members]
        ours = {entry["id"] for entry in images}
        others = {entry["id"] for entry in content["images"]} - ours
        rows = [
            entry
            for entry in content["annotations"]
            if entry.get("image_id") in ours
            or (name != "val" and entry.get("image_id") not in others)
        ]
        return {**content, "images": images, "annotations": rows}


def one_table(parts: Sequence[Part]) -> Dict[int, str]:
    """Names by category id, the same in all parts."""
    tables = [
        {entry["id"]: entry["name"] for entry in part.content["categories"]} for part in parts
    ]
    for part, table in zip(parts, tables):
        if table != tables[0]:
            raise ValueError(
                f"{part.where} and {parts[0].where} have different categories:"
                f" {sorted(set(table.items()) ^ set(tables[0].items()))[:6]}"
            )
    return tables[0]


def box_lists(
    root: Path,
    part: Part,
    labels: Mapping[int, int],
    categories: Mapping[int, str],
    report: DefectReport,
) -> List[BoxList]:
    """A part's pictures by rising id; bad boxes are noted and left out, classes that were not asked
    for are left out.
    """
    inside = part.images.relative_to(root)
    lists: Dict[int, BoxList] = {}
    files = set()
    for image in part.content["images"]:
        name = (inside / part.places[image["file_name"]]).as_posix()
        if image["id"] in lists or name in files:
            report.add("listed_twice", name, f"image id {image['id']}")
            continue
        files.add(name)
        size = annotated_size(image) or image_size(root / name)
        lists[image["id"]] = BoxList(name, image["id"], size, [], [], [], [], [])
    for entry in part.content["annotations"]:
        where = f"{part.where} annotation {entry.get('id')}"
        box = entry.get("bbox")
        if entry.get("image_id") not in lists:
            report.add("no_image", where, f"image_id {entry.get('image_id')}")
        elif entry.get("category_id") not in categories:
            report.add("unknown_class", where, f"category_id {entry.get('category_id')}")
        elif not isinstance(box, list) or len(box) != 4:
            report.add("no_box", where)
        elif not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
            report.add("bad_number", where, str(box))
        elif entry["category_id"] in labels:
            add_box(lists[entry["image_id"]], entry, labels, where, report)
    return [lists[number] for number in sorted(lists)]


def add_box(
    image: BoxList,
    entry: Mapping[str, Any],
    labels: Mapping[int, int],
    where: str,
    report: DefectReport,
) -> None:
    x, y, width, height = entry["bbox"]
    canvas = image.size if min(image.size) else ANY_SIZE  # without one it is named as unreadable
    box = keep_box((x, y, x + width, y + height), canvas, report, where)
    if box is None:
        return
    area = entry.get("area")
    if not isinstance(area, (int, float)) or not math.isfinite(area):
        area = width * height
    image.boxes.append(box)
    image.labels.append(labels[entry["category_id"]])
    image.difficult.append(False)
    image.crowd.append(bool(whole_number(entry.get("iscrowd"))))
    image.areas.append(float(area))
