"""What evaluations of the same pictures by one NMS and another leave in a folder.

The first is the main one: its scores stand under their own keys, its detections in detections.json;
those of another stand below `other_nms` and in detections_<nms>.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from data.evaluation.scores import Scores, flat
from detectors.commands.evaluate.judge import Judge

__all__ = ["score_all", "write_all"]


def score_all(judges: Sequence[Judge], resamples: int) -> Dict[str, Scores]:
    """Scores by NMS, of judges that have finished.

    Args:
        judges: of one NMS each.
        resamples: for 95 % intervals; 0 = none.
    """
    return {judge.nms: judge.score(resamples=resamples) for judge in judges}


def write_all(
    folder: Path, judges: Sequence[Judge], scores: Mapping[str, Scores], about: Mapping[str, Any]
) -> None:
    """Write the detections of each judge, and one `scores.json`.

    Args:
        folder: where to.
        judges: the main one first.
        scores: of `score_all`.
        about: what `scores.json` says besides, in plain types.
    """
    first, *others = judges
    for judge in others:
        judge.write_beside(folder)
    beside = {judge.nms: flat(scores[judge.nms].values) for judge in others}
    first.write(folder, scores[first.nms], {**about, **({"other_nms": beside} if beside else {})})
