"""What a person reads after a run: labels and counts, what was skipped, and what to try if nothing
was found.
"""

from __future__ import annotations

import sys
from typing import List, Sequence, Tuple

from detectors.commands.infer.arguments import Arguments
from detectors.commands.infer.results import Results, Tally
from detectors.experiment.console import table
from detectors.experiment.timing import Timings

__all__ = ["labels_table", "nothing_found", "notes", "summarise"]

LISTED = 5  # unreadable files on screen; the json has them all
ROWS = 20  # labels in the table
LABEL_IDS = (
    "note: category_id in coco.json is label + 1: the weights do not say what ids their data has"
)
LOST = 8  # an image this many times longer than the input: a 64-pixel object has 8 there


def labels_table(tally: Tally, names: Sequence[str]) -> str:
    """Label, boxes, images with it, best score; most frequent first."""
    ordered = sorted(tally.boxes, key=lambda label: (-tally.boxes[label], label))
    rows = [
        [
            names[label],
            str(tally.boxes[label]),
            str(tally.images_with[label]),
            f"{tally.best_of[label]:.2f}",
        ]
        for label in ordered[:ROWS]
    ]
    text = table(["label", "boxes", "images", "best"], rows)
    hidden = len(ordered) - ROWS
    return f"{text}\n… and {hidden} more labels" if hidden > 0 else text


def nothing_found(tally: Tally, names: Sequence[str], score: float) -> str:
    """`0 boxes > 0.4; best is 0.31 (kite, beach.jpg): try --score .25`."""
    if tally.best is None:
        return f"0 boxes > {score:g} in {counted(tally.images)}: try a lower --score"
    best, label, file = tally.best
    lower = f"{suggestion(best):g}".lstrip("0")
    return f"0 boxes > {score:g}; best is {best:.2g} ({names[label]}, {file}): try --score {lower}"


def suggestion(best: float) -> float:
    """A round threshold under the best score: 0.31 -> 0.25, 0.0123 -> 0.01."""
    for step in (0.05, 0.01, 0.001, 0.0001):
        rounded = round((best - step / 2) // step * step, 4)
        if rounded > 0:
            return min(rounded, best)
    return 0.0


def notes(tally: Tally, input_side: int) -> List[str]:
    """What else is worth a line: unreadable images, and those far larger than the input."""
    lines = []
    if tally.unreadable:
        lines.append(f"{counted(len(tally.unreadable))} could not be read:")
        lines += [f"  {name}: {reason}" for name, reason in tally.unreadable[:LISTED]]
        hidden = len(tally.unreadable) - LISTED
        if hidden > 0:
            lines.append(f"  … and {hidden} more")
    side, name = tally.largest
    if side >= LOST * input_side:
        lines.append(
            f"note: {name} is {side} pixels long, the network sees {input_side}:"
            " small objects are lost; cut it into tiles"
        )
    return lines


def counted(images: int) -> str:
    """`1 image`, `2 images`."""
    return f"{images} image{'' if images == 1 else 's'}"


def summarise(
    args: Arguments,
    results: Results,
    timings: Timings,
    image_size: Tuple[int, int],
    interrupted: int,
) -> int:
    """Print what was found, what was skipped and where it all is; returns the exit code.

    Args:
        args: the command line.
        results: of the run.
        timings: of the run.
        image_size: (height, width) of the network's input.
        interrupted: exit code of the signal that stopped the run, or 0.
    """
    tally, names = results.tally, results.classes.names
    if not args.quiet:
        if tally.boxes:
            print(labels_table(tally, names))
        elif tally.images:
            print(nothing_found(tally, names, args.score))
        for line in notes(tally, min(image_size)):
            print(line)
        if "coco" in args.format and not results.classes.of_data:
            print(LABEL_IDS)
        if args.repeat is not None and timings.per_batch:
            print(timings.render())
    if interrupted:
        print(
            f"stopped after {counted(tally.images)}; the same command with --out {results.folder}"
        )
        print("and --resume goes on from there")
    print(f"{results.folder}: {', '.join(results.names())}")
    if interrupted:
        return interrupted
    if not tally.unreadable or (tally.images and not args.strict):
        return 0
    why = "--strict" if tally.images else "nothing was read"
    name, reason = tally.unreadable[0]
    bad = counted(len(tally.unreadable))
    print(f"error: {why}: {bad} could not be read, the first is {name}: {reason}", file=sys.stderr)
    return 1
