"""PASCAL VOC, and any folder of pictures with VOC's XML, read where it lies.

VOC counts pixels from 1 and its maxima are inclusive: pixels a..b cover a-1..b of our continuous
coordinates, so the minima lose 1 and the maxima stay. A folder of one's own that has a minimum of 0
is counted from 0, and its corners are taken as they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from data.annotations import Annotations, BoxList, pack
from data.defects import (
    DefectReport,
    keep_box,
    note_aliases,
    note_classes,
    note_shared,
    note_shares,
)
from data.drawn_split import how_drawn
from data.probing import image_size
from data.voc_layout import (
    ImageIndex,
    VocFolder,
    find_folder,
    inner_folders,
    set_members,
    xml_names,
)
from data.voc_xml import Sheet, read_sheet

__all__ = ["VocSplits", "read_voc"]

ANY_SIZE = (2**31, 2**31)


class VocSplits(NamedTuple):
    """What `read_voc` found; `data.annotations.AnnotatedImages` makes a dataset of a split."""

    splits: Dict[str, Annotations]
    """By the names that were asked for; all with the same classes."""
    report: DefectReport
    """What is wrong with them."""


class Page(NamedTuple):
    """A picture, by its path below the root, and the sheet that belongs to it."""

    image: str
    sheet: Sheet


def read_voc(
    root: Path,
    splits: Mapping[str, Sequence[str]],
    *,
    classes: Optional[Sequence[str]] = None,
    aliases: Optional[Mapping[str, str]] = None,
    seed: int = 0,
    validation: float = 0.2,
) -> VocSplits:
    """Read the annotations of one or more splits; no picture is opened unless its size is missing.

    Args:
        root: `VOCdevkit` or the folder that holds it; or a folder of one's own.
        splits: name -> sets, such as `{"train": ["2007_trainval", "2012_trainval"]}` or
            `{"train": ["train"], "val": ["val"]}` (see `data.voc_layout`). The first is the one
            that is trained on.
        classes: the names by label; those of the data, in alphabetical order, where None.
        aliases: name in the data -> class to take it for.
        seed: of the train/val split that is drawn where there are no lists.
        validation: share of it that is "val".

    Returns:
        Annotations per split and the defects, which refuse nothing by themselves: see
        `DefectReport.require_sound`.

    Raises:
        FileNotFoundError: no dataset there, a list that is missing, or a list that names images
            which are not there.
        ValueError: an empty list.
    """
    report = DefectReport()
    reader = VocReader(root, seed, validation, aliases or {}, report)
    members = {split: [reader.members(name) for name in sets] for split, sets in splits.items()}
    pages = {
        split: unique([page for members in sets for page in reader.pages(members)], report)
        for split, sets in members.items()
    }
    found = {
        split: {thing.name for page in listed for thing in page.sheet.things}
        for split, listed in pages.items()
    }
    names = list(classes) if classes is not None else sorted(set().union(*found.values()))
    note_aliases(aliases or {}, reader.names, report)
    first = next(iter(splits))
    note_classes(names, found[first], first, report)
    labels = {name: label for label, name in enumerate(names)}
    tables = {
        split: numbered(pack([box_list(root, page, labels, report) for page in listed], names))
        for split, listed in pages.items()
    }
    note_shares({split: table.boxes for split, table in tables.items()}, report)
    note_shared({split: table.names.tolist() for split, table in tables.items()}, report)
    return VocSplits(tables, report)


Members = Tuple[VocFolder, List[str]]
"""A tree and the names of a set's annotation files in it."""


class VocReader:
    """Reads each annotation file once, however many sets name it.

    Args:
        root: of the dataset.
        seed, validation, aliases: see `read_voc`.
        report: where defects go.
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        validation: float,
        aliases: Mapping[str, str],
        report: DefectReport,
    ) -> None:
        self.root = root
        self.seed = seed
        self.validation = validation
        self.aliases = aliases
        self.report = report
        self.indices: Dict[Path, ImageIndex] = {}
        self.read: Dict[Path, Dict[str, Optional[Page]]] = {}
        """By tree and name; None where there is no picture or no XML."""
        self.zero_based: Set[Path] = set()
        self.names: Set[str] = set()
        """Of classes, as written."""

    def members(self, name: str) -> Members:
        """Read what a set needs: the files of its list, or the whole tree where it has none."""
        folder = find_folder(self.root, name)
        part = name.partition("_")[2] if folder.official else name
        by_folder = not folder.official and folder.path != self.root
        listed = set_members(
            folder, part, seed=self.seed, validation=self.validation, by_folder=by_folder
        )
        members = list(dict.fromkeys(listed))
        for member, count in Counter(listed).items():
            if count > 1:
                self.report.add("listed_twice", member, f"{count} times in list {part}")
        if folder.path not in self.indices:
            self.indices[folder.path] = ImageIndex(folder.images)
        own_list = folder.lists / f"{part}.txt"
        if own_list.is_file():
            missing = self.read_all(folder, members)
            if missing:
                raise FileNotFoundError(
                    f"{own_list} names {len(members)} images; {len(missing)} are not there or have"
                    f" no annotation, first: {missing[0]}"
                )
        elif folder.path not in self.read:
            missing = self.read_all(folder, xml_names(folder.annotations))
            for path in missing:
                self.report.add("missing_image", path)
            self.note_unlabelled(folder)
            if not by_folder and part != "all" and not inner_folders(folder):
                self.report.notes.append(how_drawn("no ImageSets", self.seed, self.validation))
        return folder, members

    def read_all(self, folder: VocFolder, members: Sequence[str]) -> List[str]:
        """Read annotation files; returns those that are missing or whose picture is."""
        read = self.read.setdefault(folder.path, {})
        missing = []
        for member in members:
            if member in read:
                continue
            path = folder.annotations / f"{member}.xml"
            where = relative(path, self.root)
            read[member] = None
            if not path.is_file():
                missing.append(where)
                continue
            sheet = read_sheet(path, where, self.report)
            if sheet is None:
                continue
            image = self.indices[folder.path].find(member, sheet.filename)
            if image is None:
                missing.append(where)
                continue
            read[member] = Page(relative(folder.images / image, self.root), self.renamed(sheet))
        return missing

    def renamed(self, sheet: Sheet) -> Sheet:
        self.names.update(thing.name for thing in sheet.things)
        things = [
            replace(thing, name=self.aliases.get(thing.name, thing.name)) for thing in sheet.things
        ]
        return replace(sheet, things=things)

    def note_unlabelled(self, folder: VocFolder) -> None:
        read, index = self.read[folder.path], self.indices[folder.path]
        used = {page.image for page in read.values() if page is not None}
        broken = {index.find(name, None) for name, page in read.items() if page is None}
        for name in index.by_path.values():
            path = relative(folder.images / name, self.root)
            if path not in used and name not in broken:
                self.report.add("unlabelled", path)

    def pages(self, members: Members) -> List[Page]:
        """A set's pages, their boxes as continuous pixels, once all sets have been read."""
        folder, names = members
        read = self.read[folder.path]
        zeros = [
            thing.where
            for page in read.values()
            if page is not None and not folder.official
            for thing in page.sheet.things
            if min(thing.box[:2]) == 0
        ]
        if zeros and folder.path not in self.zero_based:
            self.zero_based.add(folder.path)
            for where in zeros:
                self.report.add("zero_based", where)
        there = [page for page in (read[name] for name in names) if page is not None]
        if zeros:
            return there
        return [
            Page(image, replace(sheet, things=[thing.from_one() for thing in sheet.things]))
            for image, sheet in there
        ]


def unique(pages: Sequence[Page], report: DefectReport) -> List[Page]:
    """The first page of each picture."""
    found: Dict[str, Page] = {}
    for page in pages:
        if found.setdefault(page.image, page) is not page:
            report.add("listed_twice", page.image, "by two annotations or sets")
    return list(found.values())


def box_list(root: Path, page: Page, labels: Mapping[str, int], report: DefectReport) -> BoxList:
    """A page's boxes, the bad ones noted and left out."""
    size = page.sheet.size or image_size(root / page.image)
    image = BoxList(page.image, 0, size, [], [], [], [], [])
    canvas = size if min(size) else ANY_SIZE  # a picture without a size is named as unreadable
    seen = set()
    for thing in page.sheet.things:
        if thing.name not in labels:
            report.add("unknown_class", thing.where, thing.name)
            continue
        box = keep_box(thing.box, canvas, report, thing.where)
        if box is None:
            continue
        if (thing.name, box) in seen:
            report.add("same_box", thing.where, thing.name)
        seen.add((thing.name, box))
        image.boxes.append(box)
        image.labels.append(labels[thing.name])
        image.difficult.append(thing.difficult)
        image.crowd.append(False)
    return image


def numbered(table: Annotations) -> Annotations:
    """With VOC's own numbers as image ids (`2008_000002` -> 2008000002) where all names are such,
    else 1, 2, 3, ...
    """
    stems = [str(name).rpartition("/")[2].rpartition(".")[0] for name in table.names]
    numbers = [int(stem) for stem in stems if re.fullmatch(r"\d+(_\d+)?", stem)]
    own = len(numbers) == len(stems) and len(set(numbers)) == len(stems)
    return table.with_ids(numbers if own else range(1, len(stems) + 1))


def relative(path: Path, root: Path) -> str:
    """`path` below `root`, parts joined by '/'."""
    return path.relative_to(root).as_posix()
