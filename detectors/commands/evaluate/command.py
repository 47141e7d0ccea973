"""`python -m detectors evaluate` and `train.py task=evaluate`: scores of weights, or of stored
detections, written to `runs/evaluate/<recipe>/<n>`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from detectors.commands.evaluate.arguments import USAGE_TEXT, evaluation_recipe
from detectors.commands.screen import guarded
from detectors.experiment.processes import Processes
from detectors.experiment.recipe import Recipe, inference_options, recipe_yaml, resolve
from detectors.experiment.run_folder import CONFIG, SCORES, new_run_folder

if TYPE_CHECKING:  # at run time torch waits until the command line has been understood
    from data.evaluation.intervals import Interval
    from data.evaluation.stored import Stored
    from detectors.commands.evaluate.detector import Loaded
    from detectors.commands.evaluate.judge import Judge
    from detectors.commands.train.datasets import Datasets

__all__ = ["evaluate", "main"]


def main(words: Sequence[str]) -> int:
    """`python -m detectors evaluate WORDS`; returns the exit code."""
    settings = [word for word in words if word != "--debug"]
    if not settings or "--help" in settings or "-h" in settings:
        print(USAGE_TEXT)
        return 0 if settings else 2
    debug = len(settings) < len(words)
    with Processes.of_environment().open() as processes:
        return guarded(
            lambda: evaluate(evaluation_recipe(settings), processes),
            debug=debug,
            processes=processes,
        )


def evaluate(recipe: Recipe, processes: Processes) -> int:
    """Score `recipe.weights` or `recipe.detections` on the sets of `data.val`; what it raises is
    explained by `guarded`. Returns the exit code.

    Several processes share the pictures, each with the whole model; the first scores and writes.

    Raises:
        ValueError: both or neither is given, other classes, another split, no detector.
        FileNotFoundError: a file or the dataset is missing.
    """
    if (recipe.weights is None) == (recipe.detections is None):
        raise ValueError(
            "task=evaluate takes weights=FILE (a checkpoint or a run folder) or detections=FILE,"
            f" got {'neither' if recipe.weights is None else 'both'}"
        )
    from detectors.commands.infer.device import calm_threads, choose_device, choose_gpu

    calm_threads()  # before anything imports torch
    recipe = resolve(recipe)
    device = choose_device(recipe.device.value, "device=")  # before anything imports PopTorch
    choose_gpu(device, processes)
    if recipe.detections is not None:
        path = Path(recipe.detections)
        return processes.from_first(lambda: score_detections(recipe, path))
    return score_weights(recipe, Path(str(recipe.weights)), device, processes)


def score_detections(recipe: Recipe, path: Path) -> int:
    """Score a file; no model is built."""
    from data.evaluation.stored import read_detections
    from detectors.commands.evaluate.judge import Judged

    datasets = open_data(recipe)
    judge = new_judge(recipe, datasets)  # of one NMS or another: a file does not say
    stored = read_detections(path, judge.annotations, datasets.category_ids)
    judge.judged = Judged(stored.annotations, stored.found, None, sum(stored.left_out.values()))
    print(f"detections {path}: {len(stored.found)} in {len(stored.annotations)} images")
    other = read_other(recipe, judge, stored.annotations)
    return conclude(recipe, [judge], other, {"detections": str(path)})


def score_weights(recipe: Recipe, path: Path, device: str, processes: Processes) -> int:
    """Run a detector over the pictures and score it."""
    from detectors.commands.evaluate.detector import open_detector
    from detectors.commands.evaluate.predict import judge_model
    from detectors.commands.train.pictures import fit_of
    from detectors.experiment.console import Progress
    from detectors.weights.checkpoint import find

    find(path)  # a mistyped path is told before a dataset is read
    datasets = open_data(recipe)
    loaded = open_detector(recipe, datasets.class_names, path)
    print(f"device {device} · {loaded.line}")
    kinds = recipe.evaluate.nms
    judges = [new_judge(recipe, datasets, loaded, processes, nms) for nms in kinds]
    judge = judges[0]
    assert datasets.val is not None  # or there were no judge
    note_changed_data(judge, path)
    other = read_other(recipe, judge, judge.annotations)
    share = -(-len(judge.annotations) // processes.size)
    with Progress(share, quiet=not processes.first) as progress:
        speed = judge_model(
            loaded.model,
            datasets.val,
            fit_of(recipe, loaded.report.preprocess.pad),
            judge,
            inference_options(recipe),
            device=device,
            batch_size=recipe.evaluate.micro_batch_size,
            workers=recipe.data.workers,
            progress=progress.advance,
            processes=processes,
            others=judges[1:],
        )
    for one in judges:
        one.collect(loaded.step)
    speed = processes.agree(speed, sum)
    if speed:
        print(f"{speed:.1f} images/s, reading included")
    about = {"weights": str(loaded.report.path), "sha256": loaded.report.sha256}
    return processes.from_first(lambda: conclude(recipe, judges, other, about))


def open_data(recipe: Recipe) -> Datasets:
    """The sets to evaluate on, and a line about them."""
    from detectors.commands.train.datasets import open_datasets

    datasets = open_datasets(recipe, train=False)
    for line in datasets.lines:
        print(line)
    return datasets


def new_judge(
    recipe: Recipe,
    datasets: Datasets,
    loaded: Optional[Loaded] = None,
    processes: Optional[Processes] = None,
    nms: str = "",
) -> Judge:
    """A judge of a recipe's flavours, for the detections of an NMS."""
    from detectors.commands.evaluate.judge import Judge

    if datasets.val is None:
        raise ValueError("data.val is []: it must name the sets to evaluate on")
    return Judge(
        datasets.val.annotations,
        flavours=recipe.evaluate.flavours,
        metric=recipe.evaluate.metric,
        category_ids=datasets.category_ids,
        backend=recipe.evaluate.coco_backend,
        model_classes=None if loaded is None else loaded.class_names,
        processes=processes,
        nms=nms,
    )


def read_other(recipe: Recipe, judge: Judge, annotations: Any) -> Optional[Stored]:
    """The detections of `against=`, which must be of the same pictures."""
    from data.evaluation.stored import read_detections

    if recipe.against is None:
        return None
    stored = read_detections(Path(recipe.against), annotations, judge.category_ids)
    if len(stored.annotations) != len(annotations):
        raise ValueError(
            f"against={recipe.against} has {len(stored.annotations)} of these"
            f" {len(annotations)} images: a difference needs the same on both sides"
        )
    return stored


def note_changed_data(judge: Judge, weights: Path) -> None:
    """Say if a run was scored on other data than this."""
    scores = (weights if weights.is_dir() else weights.parent) / SCORES
    if not scores.is_file():
        return
    before = json.loads(scores.read_text(encoding="utf-8")).get("data_fingerprint")
    if before is not None and before != judge.fingerprint():
        print(f"note: these are not the data (or not all) that {scores} was made on")


def conclude(
    recipe: Recipe, judges: Sequence[Judge], other: Optional[Stored], about: Dict[str, Any]
) -> int:
    """Score, write, tell; returns the exit code.

    Args:
        recipe: of the evaluation.
        judges: of one NMS each; the first is compared with `other`.
        other: detections that the first are held against.
        about: what `scores.json` says besides.
    """
    from data.evaluation.scores import compare, flat
    from detectors.commands.evaluate.report import difference_lines, score_lines
    from detectors.commands.evaluate.written import score_all, write_all

    judge = judges[0]
    assert judge.judged is not None
    annotations, found, _, left_out = judge.judged
    scores = score_all(judges, recipe.evaluate.resamples)
    lines = score_lines(scores)
    if len(annotations) < len(judge.annotations):
        lines.append(f"judged {len(annotations)} of the {len(judge.annotations)} images")
    if left_out:
        lines.append(f"{left_out} detections are of classes that the data does not have")
    if other is not None:
        differences: Dict[str, Interval] = compare(
            annotations,
            found,
            other.found,
            recipe.evaluate.flavours,
            resamples=recipe.evaluate.resamples,
        )
        lines += difference_lines(differences, str(recipe.against))
        about["against"] = {"file": str(recipe.against), **flat(differences)}
    folder = new_run_folder(Path(recipe.run.root) / "evaluate" / recipe.name)
    (folder / CONFIG).write_text(recipe_yaml(recipe), encoding="utf-8")
    write_all(folder, judges, scores, {"recipe": recipe.name, **about})
    print("\n".join([*lines, written(folder, annotations.class_names, list(scores)[1:])]))
    return 0


def written(folder: Path, class_names: Sequence[str], others: Sequence[str]) -> str:
    """What lies where; `others` are the NMS beside the first."""
    files: List[str] = [
        SCORES,
        "detections.json",
        *(f"detections_{nms}.json" for nms in others),
        f"comp4_det_test_<{len(class_names)} classes>.txt",
    ]
    return f"{folder}: {', '.join(files)}"
