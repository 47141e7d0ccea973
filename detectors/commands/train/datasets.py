"""The datasets of a recipe, opened and looked at: what is there, what is missing, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from data.annotations import AnnotatedImages, Annotations, Dataset
from data.coco import read_coco
from data.defects import KINDS, DefectReport
from data.generated import CLASSES, GeneratedImages
from data.layout import find_layout
from data.probing import probe_pictures
from data.voc import read_voc
from data.yolo import read_yolo
from detectors.commands.train.class_slots import class_slots
from detectors.commands.train.data_complaints import unknown_classes, unsound, way_round
from detectors.commands.train.data_summary import fingerprint, summary
from detectors.experiment.recipe import DataFormat, DataSettings, Recipe, Task, image_size

__all__ = ["Datasets", "open_datasets"]

GENERATED_SEEDS = {"train": 0, "val": 1}  # two seeds are two datasets; the recipe's orders them


@dataclass(frozen=True)
class Datasets:
    """What a run trains and evaluates on."""

    train: Dataset
    """To train on; empty where only `val` was asked for."""
    val: Optional[Dataset]
    """To evaluate on; None where `data.val` is []."""
    class_names: Tuple[Optional[str], ...]
    """By the model's label; None for an output that no class has (`data.labels`)."""
    category_ids: Tuple[int, ...]
    """Of each class of the annotations, for COCO results; a format without ids has label + 1."""
    report: DefectReport
    """What is wrong."""
    fingerprint: str
    """SHA-256 of class names, picture names, sizes and annotations."""
    lines: Tuple[str, ...]
    """What is there, for people."""
    bad_images: Tuple[str, ...]
    """Pictures that cannot be read, with the reason; left out of `train` and `val`."""
    settings: DataSettings
    """What was asked for."""

    @property
    def ids_by_label(self) -> Tuple[Optional[int], ...]:
        """Category ids as `class_names` are: by the model's label, None for an output that no class
        has.
        """
        ids = dict(zip(self.train.annotations.class_names, self.category_ids))
        return tuple(None if name is None else ids[name] for name in self.class_names)

    def require_sound(self, *, named: bool = False) -> None:
        """Refuse what cannot be trained on; with `data.skip_bad`, only that of which nothing is
        left.

        Args:
            named: every defect is on the screen already.

        Raises:
            ValueError: objects of classes that `data.classes` does not have and nothing worse, or
                no box at all.
            RuntimeError: everything else of `DefectReport.problem`.
        """
        if not self.settings.skip_bad:
            self.require_whole(named)
        lone = len(self.report.of_kind("missing_image"))
        if lone and not len(self.train) and not (self.val is not None and len(self.val)):
            raise ValueError(
                f"none of the {lone} annotations at {self.settings.root} has its image there, first"
                f" {self.report.of_kind('missing_image')[0]}: data.root=DIR must hold both"
            )
        if not self.class_names:
            raise ValueError(
                f"no object in the annotations at {self.settings.root}: there is no class"
            )
        for split, part in (("train", self.train), ("val", self.val)):
            if part is not None and len(part) and not len(part.annotations.boxes):
                names = ", ".join(part.annotations.class_names)
                raise ValueError(
                    f"no box of {names} in the {len(part)} images of"
                    f" data.{split} at {self.settings.root}"
                    + ("; data.val=[] trains without evaluation" if split == "val" else "")
                )

    def require_whole(self, named: bool) -> None:
        """Refuse damage."""
        stopping = [kind for kind in self.report.counts() if KINDS[kind].stops]
        if stopping == ["unknown_class"] and self.settings.format is DataFormat.voc:
            tables = [split.annotations for split in (self.train, self.val) if split is not None]
            raise ValueError(unknown_classes(self.report, tables))
        problem = self.report.problem()
        if problem is not None:
            raise RuntimeError(unsound(problem.splitlines(), len(self.report.defects), named))


class Source(NamedTuple):
    """A format's reader and what it found."""

    splits: Dict[str, Annotations]
    report: DefectReport
    category_ids: Tuple[int, ...]


Read = Callable[[Mapping[str, Sequence[str]]], Source]


def open_datasets(recipe: Recipe, *, train: bool = True, refuse: bool = True) -> Datasets:
    """Read annotations and look at every picture; writes nothing.

    `task=check` decodes every picture; else headers and ends of the files are read.

    Args:
        recipe: its `data` says what.
        train: False opens the sets to evaluate on alone.
        refuse: False leaves `require_sound` to the caller, who wants to show everything first.

    Raises:
        FileNotFoundError: there is no such dataset, or a part of it is missing.
        ValueError: an empty list, or classes that do not fit the data.
        RuntimeError: damaged annotations or pictures, unless `data.skip_bad`.
    """
    if recipe.data.format is DataFormat.generated:
        return generated(recipe, train)
    root = Path(recipe.data.root).expanduser()
    settings, found = found_settings(recipe.data, root)
    wanted = "train" if train else "val"
    if not getattr(settings, wanted):
        raise ValueError(f"data.{wanted} is []: it must name a set or more")
    sets = {"train": settings.train} if train else {}
    if settings.val:
        sets["val"] = settings.val
    source = limited(read_all(reader(settings, root, recipe.seed), sets), settings.limit)
    source.report.notes[:0] = found
    probe_pictures(root, source.splits, source.report, decode=recipe.task is Task.check)
    bad = {defect.where: defect.detail for defect in source.report.of_kind("unreadable")}
    splits = {split: without(table, bad) for split, table in source.splits.items()}
    names = next(iter(splits.values())).class_names
    slots = class_slots(names, source.category_ids, settings.labels)
    nothing = next(iter(splits.values())).take([])
    datasets = Datasets(
        AnnotatedImages(root, splits.get("train", nothing), settings.difficult, slots.labels),
        AnnotatedImages(root, splits["val"]) if "val" in splits else None,
        slots.names,
        source.category_ids,
        source.report,
        fingerprint(splits),
        tuple(summary(splits, sets, settings, source.report)),
        tuple(f"{name}: {reason}" for name, reason in bad.items()),
        settings,
    )
    if refuse:
        datasets.require_sound()
    return datasets


def generated(recipe: Recipe, train: bool) -> Datasets:
    """Pictures made on the spot."""
    settings = recipe.data
    if settings.classes is not None and tuple(settings.classes) != CLASSES:
        raise ValueError(
            f"data.classes {settings.classes} are not what data.format=generated draws:"
            f" {', '.join(CLASSES)}"
        )
    size = image_size(recipe)
    wanted = {"train": train, "val": bool(settings.val)}
    datasets = {
        split: GeneratedImages(min(count, settings.limit or count), size, seed, settings.noise)
        for (split, seed), count in zip(GENERATED_SEEDS.items(), settings.count)
        if count and wanted[split]
    }
    if not datasets:
        raise ValueError("data.val is []: it must name a set or more")
    splits = {split: dataset.annotations for split, dataset in datasets.items()}
    return Datasets(
        datasets.get("train") or AnnotatedImages(Path(), splits["val"].take([])),
        datasets.get("val"),
        CLASSES,
        tuple(range(1, len(CLASSES) + 1)),
        DefectReport(),
        fingerprint(splits),
        tuple(summary(splits, {split: [split] for split in splits}, settings, DefectReport())),
        (),
        settings,
    )


def found_settings(settings: DataSettings, root: Path) -> Tuple[DataSettings, List[str]]:
    """Settings in which the format is a format and sets are those of the data, and what to say of
    it.
    """
    if settings.format is not DataFormat.auto:
        return settings, []
    layout = find_layout(root, settings.train, settings.val)
    form = DataFormat(layout.format)
    return replace(settings, format=form, train=layout.train, val=layout.val), [layout.line]


def reader(settings: DataSettings, root: Path, seed: int) -> Read:
    """The reader of a format with a recipe's settings."""
    how: Dict[str, Any] = {
        "classes": settings.classes,
        "aliases": settings.classes_alias,
        "seed": seed,
        "validation": settings.validation,
    }

    def read(sets: Mapping[str, Sequence[str]]) -> Source:
        if settings.format is DataFormat.coco:
            return Source(*read_coco(root, sets, **how))
        by_name = {DataFormat.voc: read_voc, DataFormat.yolo: read_yolo}
        splits, report = by_name[settings.format](root, sets, **how)
        names = next(iter(splits.values())).class_names
        return Source(splits, report, tuple(range(1, len(names) + 1)))

    return read


def read_all(read: Read, sets: Mapping[str, Sequence[str]]) -> Source:
    """All sets; where only some can be read, the error says how to go on with those."""
    try:
        return read(sets)
    except (FileNotFoundError, ValueError) as error:
        hint = way_round(read, sets)
        if hint is None:
            raise
        text = str(error)
        head, expected, layout = text.partition("; expected\n")
        get = [line for line in layout.splitlines() if line.startswith("get it")]
        raise type(error)("\n".join([head if expected else text, *get, hint])) from None


def limited(source: Source, limit: Optional[int]) -> Source:
    """The first pictures of each split."""
    if limit is None:
        return source
    splits = {
        name: table.take(range(min(limit, len(table)))) for name, table in source.splits.items()
    }
    return source._replace(splits=splits)


def without(table: Annotations, names: Mapping[str, str]) -> Annotations:
    """The pictures that are not among `names`."""
    kept = [index for index, name in enumerate(table.names.tolist()) if name not in names]
    return table if len(kept) == len(table) else table.take(kept)
