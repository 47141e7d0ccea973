"""Collects what a detector finds in a dataset's pictures, scores it, and writes it down.

B pictures of a batch, D places for detections in each. Boxes come in pixels of the network's input
and are scored in pixels of the picture on disk, to the thousandth, as they are written: scoring the
file again gives the same numbers to the last digit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from data.annotations import Annotations
from data.collate import Placement, to_original
from data.evaluation import coco
from data.evaluation import scores as judges
from data.evaluation.found import Found, checked, rounded
from data.evaluation.results import write_coco, write_results
from data.evaluation.scores import Scores, write_scores
from data.evaluation.stored import class_labels
from detectors.commands.train.data_summary import fingerprint
from detectors.experiment.processes import Processes
from detectors.postprocess import Detections

__all__ = ["Judge", "Judged"]


class Judged(NamedTuple):
    """One evaluation."""

    annotations: Annotations
    """Of the pictures that came, in the dataset's order."""
    found: Found
    """What was found in them."""
    step: Optional[int]
    """Updates of the weights before it, where that is known."""
    left_out: int
    """Detections of classes that the data does not have."""


class Judge:
    """One evaluation after another: `add` every batch, then `finish`.

    Args:
        annotations: of the whole dataset. Only pictures that came are judged, so that a part of it
            can be tried; `Judged.annotations` says which.
        flavours: of `data.evaluation.scores.FLAVOURS`.
        metric: the key by which one model is better than another.
        category_ids: of each label in COCO results; label + 1 where None.
        backend: COCO's judge, see `data.evaluation.coco`.
        processes: that judge together, each what it was given; None = this one alone. All of them
            call `finish`; the first has what they found, and scores it.
        model_classes: names by the detector's label, where it is not made for this data; None: the
            data's own. Detections of a class that the data does not have are left out and counted.
        nms: what the detections come from, hard or soft; empty where nothing says.

    Raises:
        ValueError: an unknown flavour, a metric that is not of them, or a class of the data that
            `model_classes` lacks.
        RuntimeError: COCO's judge is asked for and not installed.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        flavours: Sequence[str] = ("voc07", "voc12"),
        metric: str = "AP50_voc07",
        category_ids: Optional[Sequence[int]] = None,
        backend: str = "pycocotools",
        model_classes: Optional[Sequence[Optional[str]]] = None,
        processes: Optional[Processes] = None,
        nms: str = "",
    ) -> None:
        known = judges.keys(flavours)
        if metric not in known:
            raise ValueError(
                f"evaluate.metric must be one of {', '.join(known)}, which are what"
                f" evaluate.flavours={list(flavours)} has; got '{metric}'"
            )
        if "coco" in flavours:
            coco.require(backend)
        self.annotations = annotations
        self.flavours = list(flavours)
        self.metric = metric
        self.category_ids = tuple(category_ids or range(1, len(annotations.class_names) + 1))
        self.backend = backend
        names = annotations.class_names if model_classes is None else model_classes
        labels = class_labels(names, annotations.class_names, "weights")
        self._labels = np.array([-1 if n is None else n for n in labels], dtype=np.int64)
        self.processes = processes or Processes()
        self.nms = nms
        self.judged: Optional[Judged] = None
        """The last evaluation that was finished; in the first process."""
        self._places = {int(number): place for place, number in enumerate(annotations.image_ids)}
        self._found: Dict[int, Found] = {}
        self._left_out = 0

    @property
    def quick_flavours(self) -> List[str]:
        """Those that an evaluation in the middle of training needs: VOC's, and COCO's, which takes
        minutes, where `metric` is COCO's or nothing else is asked for.
        """
        wanted = [name for name in self.flavours if name != "coco" or "coco" in self.metric]
        return wanted or self.flavours

    def add(self, detections: Detections, placements: Sequence[Placement]) -> None:
        """Take the detections of some pictures; of a picture that comes again the first count.

        Args:
            detections: boxes (B, D, 4) in pixels of the network's input, scores (B, D), labels
                (B, D) and count (B,), on any device.
            placements: B of them: where the pictures lie in the network's input.

        Raises:
            ValueError: a picture that the dataset does not have, a label beyond its classes, or
                numbers that are not finite.
        """
        boxes, scores, labels, counts = (part.detach().cpu() for part in detections)
        for row, placement in enumerate(placements):
            if placement.image_id not in self._places:
                raise ValueError(
                    f"image {placement.image_id} ('{placement.name}') is not among the dataset's"
                    f" {len(self._places)}"
                )
            place, count = self._places[placement.image_id], int(counts[row])
            if place in self._found:
                continue
            theirs = labels[row, :count].numpy().astype(np.int64)
            if count and not 0 <= theirs.min() <= theirs.max() < len(self._labels):
                raise ValueError(
                    f"detections of '{placement.name}' have labels {theirs.min()} to"
                    f" {theirs.max()}, there are {len(self._labels)} classes"
                )
            exact = [float(str(score)) for score in scores[row, :count].float().numpy()]
            original = to_original(boxes[row, :count], placement)
            found = Found(
                np.full(count, place, dtype=np.int64),
                self._labels[theirs],
                np.array(exact, dtype=np.float64),  # the shortest decimals of the same float32
                rounded(original.numpy().astype(np.float64)),
            )
            known = found.labels >= 0
            self._left_out += int((~known).sum())
            self._found[place] = checked(found.take(known), self.annotations)

    def finish(self, step: Optional[int] = None) -> Dict[str, float]:
        """Score what was added, without intervals, and begin anew.

        Args:
            step: updates of the weights so far, where that is known.

        Returns:
            Fractions: `quick_flavours`' keys, and `class/<name>/<metric>` for each class that has
            something to find.

        Raises:
            RuntimeError: nothing was added.
        """
        self.collect(step)
        return self.processes.from_first(self._quick_scores)

    def collect(self, step: Optional[int] = None) -> None:
        """As `finish`, which scores besides: `score` does so with more to say."""
        mine = (self._found, self._left_out)
        self._found, self._left_out = {}, 0
        self.processes.agree(mine, partial(self._collect, step))

    def _collect(self, step: Optional[int], parts: Sequence[Tuple[Dict[int, Found], int]]) -> None:
        """`judged` of what all processes found."""
        by_place: Dict[int, Found] = {}
        for found_there, _ in parts:
            by_place = {**found_there, **by_place}
        left_out = sum(count for _, count in parts)
        if not by_place:
            raise RuntimeError("no picture was judged: the dataset to evaluate on gave none")
        places = sorted(by_place)
        each = [by_place[place] for place in places]
        found = Found(
            np.repeat(np.arange(len(places)), [len(one) for one in each]).astype(np.int64),
            np.concatenate([one.labels for one in each]),
            np.concatenate([one.scores for one in each]),
            np.concatenate([one.boxes for one in each]),
        )
        self.judged = Judged(self.annotations.take(places), found, step, left_out)

    def _quick_scores(self) -> Dict[str, float]:
        """What `finish` returns."""
        scores = self.score(self.quick_flavours)
        values = {key: interval.value for key, interval in scores.values.items()}
        for row in scores.classes:
            for key, interval in row.values.items():
                if key == self.metric and not math.isnan(interval.value):
                    values[f"class/{row.name}/{key}"] = interval.value
        return values

    def score(self, flavours: Optional[Sequence[str]] = None, *, resamples: int = 0) -> Scores:
        """Score the last finished evaluation again.

        Args:
            flavours: all that were asked for where None.
            resamples: for 95 % intervals.
        """
        assert self.judged is not None, "finish comes first"
        return judges.evaluate(
            self.judged.annotations,
            self.judged.found,
            self.flavours if flavours is None else flavours,
            resamples=resamples,
            backend=self.backend,
        )

    def write(self, folder: Path, scores: Scores, about: Mapping[str, Any]) -> None:
        """Write the last finished evaluation: `detections.json`, `comp4_det_test_<class>.txt` and
        `scores.json`, which names the NMS where it is known.

        Args:
            folder: where to.
            scores: of `score`.
            about: what `scores.json` says besides, in plain types.
        """
        assert self.judged is not None, "finish comes first"
        annotations, found, step, left_out = self.judged
        write_results(folder, annotations, found, self.category_ids)
        counts = {
            "step": step,
            "images": len(annotations),
            "images_of_dataset": len(self.annotations),
            "detections_left_out": left_out,
            "data_fingerprint": self.fingerprint(),
        }
        nms = {"nms": self.nms} if self.nms else {}
        write_scores(folder, scores, {**about, **nms, **counts})

    def write_beside(self, folder: Path) -> None:
        """Write the last finished evaluation as the other one, `detections_<nms>.json`."""
        assert self.judged is not None, "finish comes first"
        annotations, found = self.judged.annotations, self.judged.found
        write_coco(folder, annotations, found, self.category_ids, f"detections_{self.nms}.json")

    def fingerprint(self) -> str:
        """SHA-256 of everything that the whole dataset's annotations say; classes without a box,
        which a reader may or may not know of, apart.
        """
        table = self.annotations
        used = np.unique(table.labels)
        names = tuple(table.class_names[label] for label in used)
        labels = np.searchsorted(used, table.labels).astype(np.int32)
        return fingerprint({"val": replace(table, class_names=names, labels=labels)})
