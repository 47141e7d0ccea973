"""The end of a run: its best weights are scored in full, written down, and shown."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import torch

from data.datamodule import DetectionData
from detectors.commands.evaluate.judge import Judge, Judged
from detectors.commands.evaluate.predict import judge_model
from detectors.commands.evaluate.report import score_lines
from detectors.commands.evaluate.written import score_all, write_all
from detectors.commands.train.folder import write_text
from detectors.commands.train.pictures import fit_of
from detectors.commands.train.plan import Plan
from detectors.experiment.atomic import copy_whole
from detectors.experiment.lightning_checkpoints import Checkpoints
from detectors.experiment.lightning_metrics import MetricsCSV
from detectors.experiment.recipe import DataFormat, image_size, inference_options
from detectors.experiment.run_folder import BEST, LAST, SCORES
from detectors.weights.source import AVERAGED
from detectors.weights.tensor_file import read_tensor_file

__all__ = ["data_notes", "finish", "judge_of", "last_words"]


def judge_of(plan: Plan, nms: Optional[str] = None) -> Optional[Judge]:
    """Of the run's evaluations; None where there is nothing to evaluate on.

    Args:
        plan: of the run.
        nms: of `evaluate.nms`; the first where None.

    Raises:
        ValueError: `evaluate.metric` or `evaluate.flavours` is unknown.
    """
    evaluate, datasets = plan.recipe.evaluate, plan.datasets
    if datasets.val is None:
        return None
    return Judge(
        datasets.val.annotations,
        flavours=evaluate.flavours,
        metric=evaluate.metric,
        category_ids=datasets.category_ids,
        backend=evaluate.coco_backend,
        model_classes=datasets.class_names,
        processes=plan.ranks.processes,
        nms=nms or evaluate.nms[0],
    )


def finish(
    plan: Plan,
    folder: Path,
    judge: Optional[Judge],
    checkpoints: Checkpoints,
    metrics: Optional[MetricsCSV],
) -> List[str]:
    """Score `best.ckpt` with everything that was asked for; writes detections and scores. All
    processes of the run call it: they share the evaluation, and the first writes.

    Args:
        plan: of the run, all of whose steps are done.
        folder: of the run.
        judge: of its evaluations.
        checkpoints: which are the best.
        metrics: get the last evaluation, where the run that was resumed was stopped in it; None in
            processes that are not the first.

    Returns:
        The lines of the screen; none in processes that are not the first.
    """
    about, processes = {"recipe": plan.recipe.name, "weights": BEST}, plan.ranks.processes
    if judge is None and not processes.first:
        return []
    if judge is None:
        copy_whole(folder / LAST, folder / BEST)
        note = "data.val is []: nothing was evaluated on"
        write_text(folder / SCORES, json.dumps({**about, "note": note}, indent=1))
        return [note]
    best = checkpoints.best_step
    if processes.from_first(lambda: judge.judged is None):  # it was stopped in its last evaluation
        scores_then, step = evaluate(plan, judge, folder / LAST)
        if metrics is not None:
            metrics.log_metrics(as_logged(scores_then), step)
            if is_better(scores_then[judge.metric], folder, checkpoints):
                copy_whole(folder / LAST, folder / BEST)
                best = step
    others = [one for nms in plan.recipe.evaluate.nms[1:] if (one := judge_of(plan, nms))]
    again = processes.from_first(lambda: is_other(judge.judged, best))
    if again or others:
        path = processes.from_first(lambda: folder / (LAST if best is None else BEST))
        evaluate(plan, judge, path, others)
    if not processes.first:
        return []
    if best is None:  # nothing to find in the pictures: no score is better than another
        copy_whole(folder / LAST, folder / BEST)
    judges = [judge, *others]
    scores = score_all(judges, plan.recipe.evaluate.resamples)
    write_all(folder, judges, scores, about)
    return score_lines(scores)


def is_other(judged: Optional[Judged], best: Optional[int]) -> bool:
    """Whether other weights were judged last than the best."""
    return judged is not None and best is not None and judged.step != best


def is_better(value: float, folder: Path, checkpoints: Checkpoints) -> bool:
    """Whether weights of this score are better than `best.ckpt`."""
    before = checkpoints.best_score if (folder / BEST).exists() else None
    return before is None or value > before


def as_logged(scores: Mapping[str, float]) -> Dict[str, float]:
    """Names and digits as Lightning logs them, which keeps numbers in single precision."""
    return {f"val/{name}": float(torch.tensor(float(value))) for name, value in scores.items()}


def evaluate(
    plan: Plan, judge: Judge, path: Path, others: Sequence[Judge] = ()
) -> Tuple[Mapping[str, float], int]:
    """Judge the weights of a checkpoint, averaged ones where it has them; returns the metrics and
    their step. `others` judge other NMS of the same candidates.
    """
    assert plan.datasets.val is not None
    saved = read_tensor_file(path).content
    prefix = "model."
    weights = saved.get(AVERAGED, saved["state_dict"])
    state = {name[len(prefix) :]: value for name, value in weights.items()}
    plan.model.load_state_dict(state)
    judge_model(
        plan.model,
        plan.datasets.val,
        fit_of(plan.recipe, plan.preprocess.pad),
        judge,
        inference_options(plan.recipe),
        device=plan.device,
        batch_size=plan.recipe.evaluate.micro_batch_size,
        workers=plan.recipe.data.workers,
        processes=plan.ranks.processes,
        others=others,
    )
    for other in others:
        other.collect(int(saved["step"]))
    return judge.finish(int(saved["step"])), int(saved["step"])


def data_notes(data: DetectionData) -> List[str]:
    """What training lacked of its pictures; no line where nothing."""
    lines = []
    if data.replaced:
        first = ", ".join(data.replaced[:3])
        lines.append(f"{len(data.replaced)} images could not be read any more: {first}")
    if data.overflow:
        lines.append(f"{data.overflow} boxes were beyond data.max_boxes and left out")
    return lines


def last_words(plan: Plan, folder: Path) -> List[str]:
    """The best checkpoint, and how to try it."""
    lines = [str(folder / BEST)]
    if plan.recipe.data.format is DataFormat.generated:
        height, width = image_size(plan.recipe)
        kind = f"--size {height} {width} --noise {plan.recipe.data.noise} --seed 7"
        lines.append(f"draw some: python -m data.generated images {kind}")
    return [*lines, f"try it: python infer.py {shlex.quote(str(folder / BEST))} images/"]
