"""YOLO's text files, one per picture, with class numbers; a picture without one is empty."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from data.annotations import Annotations, BoxList, pack
from data.defects import DefectReport, note_aliases, note_classes, note_same_names, note_shared
from data.drawn_split import draw, how_drawn
from data.folder import image_ids
from data.probing import image_size
from data.yolo_layout import YoloSet, below, find_set, is_label, label_of
from data.yolo_line import read_line, to_pixels
from data.yolo_yaml import class_names, read_yaml

__all__ = ["YoloSplits", "read_yolo"]


class YoloSplits(NamedTuple):
    """What `read_yolo` found; `data.annotations.AnnotatedImages` makes a dataset of a split."""

    splits: Dict[str, Annotations]
    """By the names that were asked for; all with the same classes."""
    report: DefectReport
    """What is wrong with them."""


def read_yolo(
    root: Path,
    splits: Mapping[str, Sequence[str]],
    *,
    classes: Optional[Sequence[str]] = None,
    aliases: Optional[Mapping[str, str]] = None,
    seed: int = 0,
    validation: float = 0.2,
) -> YoloSplits:
    """Read the labels of one or more splits, and the headers of their pictures for the sizes.

    Args:
        root: folder of one of the layouts of `data.yolo_layout`.
        splits: name -> sets, such as `{"train": ["train"], "val": ["val"]}`. The first is the one
            that is trained on.
        classes: the names by label; those of the data, by number, where None. Where the data has
            none, the names of its numbers 0, 1, ...
        aliases: name in the data -> class to take it for.
        seed: of the train/val split that is drawn where the data has none.
        validation: share of it that is "val".

    Returns:
        Annotations per split and the defects, which refuse nothing by themselves: see
        `DefectReport.require_sound`.

    Raises:
        FileNotFoundError: no such set, or one whose pictures or labels are not there.
        ValueError: an empty list, no class names, a yaml that cannot be used, or `classes` that are
            not among those of the data.
    """
    report = DefectReport()
    reader = YoloReader(root, seed, validation, report)
    pictures = {
        split: reader.unique([path for name in sets for path in reader.pictures(name)])
        for split, sets in splits.items()
    }
    known = reader.names(classes)
    note_same_names(known, report)
    note_aliases(aliases or {}, known.values(), report)
    table = {number: (aliases or {}).get(name, name) for number, name in known.items()}
    own = list(dict.fromkeys(table[number] for number in sorted(table)))
    names = list(classes) if classes is not None else own
    absent = [name for name in names if name not in own]
    if absent:
        raise ValueError(f"data.classes {absent} are not among those of {root}: {', '.join(own)}")
    labels = {number: names.index(n) if n in names else -1 for number, n in table.items()}
    tables = {}
    for split, paths in pictures.items():
        found = pack([reader.box_list(path, labels) for path in paths], names)
        tables[split] = found.with_ids(image_ids(found.names.tolist()))
        reader.note_negatives(split)
    first, trained = next(iter(tables.items()))
    note_classes(names, {names[label] for label in trained.labels.tolist()}, first, report)
    note_shared({split: table.names.tolist() for split, table in tables.items()}, report)
    return YoloSplits(tables, report)


class YoloReader:
    """Reads sets of a dataset.

    Args:
        root: of the dataset.
        seed, validation: see `read_yolo`.
        report: where defects and notes go.
    """

    def __init__(self, root: Path, seed: int, validation: float, report: DefectReport) -> None:
        self.root = root
        self.seed = seed
        self.validation = validation
        self.report = report
        self.yaml = read_yaml(root)
        self.sources: Set[str] = set()
        self.unlabelled = 0
        """Pictures without a label file, since the last note of them."""
        if self.yaml is not None and self.yaml.note:
            report.notes.append(self.yaml.note)

    def names(self, classes: Optional[Sequence[str]]) -> Mapping[int, str]:
        """By number."""
        names = class_names(self.root, self.yaml)
        if names is None and classes is None:
            raise ValueError(
                f"no class names at {self.root}: labels have numbers alone; expected data.yaml with"
                " names, classes.txt or obj.names;\nor data.classes=[NAME,...] for 0, 1, ..."
            )
        return dict(enumerate(classes or [])) if names is None else names

    def pictures(self, name: str) -> List[Path]:
        """A set's pictures, some of which have a label file."""
        found = find_set(self.root, name, self.yaml)
        labels = [label_of(path, self.root) for path in found.pictures]
        if not any(label.is_file() for label in labels):
            raise FileNotFoundError(
                f"none of the {len(labels)} images of {found.source} has a label file: looked for"
                f" {labels[0]} and so on"
            )
        if found.source not in self.sources:
            self.sources.add(found.source)
            self.note_lone(found, labels)
            if found.drawn and name != "all":
                nothing = f"one folder, {found.source}" if found.source != "." else "one folder"
                self.report.notes.append(how_drawn(nothing, self.seed, self.validation))
        if not found.drawn:
            return found.pictures
        by_name = {below(path, self.root): path for path in found.pictures}
        return [by_name[one] for one in draw(list(by_name), name, self.seed, self.validation)]

    def note_lone(self, found: YoloSet, labels: Sequence[Path]) -> None:
        """Note label files without a picture, in the folders that are this set's alone."""
        if found.listed:
            return
        known = set(labels)
        for folder in sorted({label.parent for label in labels}):
            for path in sorted(folder.glob("*.txt")):
                if path not in known and is_label(path):
                    self.report.add("missing_image", below(path, self.root))

    def unique(self, paths: Sequence[Path]) -> List[Path]:
        """Each picture once."""
        kept = list(dict.fromkeys(paths))
        if len(kept) < len(paths):
            seen: Set[Path] = set()
            for path in paths:
                if path in seen:
                    self.report.add("listed_twice", below(path, self.root), "by two sets")
                seen.add(path)
        return kept

    def note_negatives(self, split: str) -> None:
        """Say how many pictures of a split have no label file."""
        if self.unlabelled:
            self.report.notes.append(
                f"{self.unlabelled} images of {split} have no label file: nothing is on them"
            )
        self.unlabelled = 0

    def box_list(self, picture: Path, labels: Mapping[int, int]) -> BoxList:
        """A picture's boxes, the bad ones noted and left out, and those of classes that were not
        asked for.

        Args:
            picture: the file.
            labels: by class number; -1 = not asked for.
        """
        size = image_size(picture)
        image = BoxList(below(picture, self.root), 0, size, [], [], [], [], [])
        path = label_of(picture, self.root)
        if not path.is_file():
            self.unlabelled += 1
            return image
        seen = set()
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{below(path, self.root)}:{number}"
            thing = read_line(line, where, self.report)
            if thing is None:
                continue
            if thing[0] not in labels:
                self.report.add("unknown_class", where, f"class {thing[0]}")
                if labels:
                    known = f"names are of {min(labels)} to {max(labels)}"
                    self.report.tails["unknown_class"] = known
                continue
            label = labels[thing[0]]
            box = to_pixels(thing[1], size, where, self.report)
            if box is None or label < 0:
                continue
            if (label, box) in seen:
                self.report.add("same_box", where, f"class {thing[0]}")
            seen.add((label, box))
            image.boxes.append(box)
            image.labels.append(label)
            image.difficult.append(False)
            image.crowd.append(False)
        return image
