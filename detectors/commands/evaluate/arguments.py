"""Which recipe an evaluation goes by: the one that is named, else the one its weights were trained
with.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import List, Optional, Sequence

from detectors.experiment.recipe import Recipe, load_recipe
from detectors.experiment.run_folder import CONFIG

__all__ = ["USAGE_TEXT", "evaluation_recipe"]

USAGE_TEXT = """usage: python -m detectors evaluate weights=FILE [key=value ...]
       python -m detectors evaluate detections=FILE recipe=NAME [key=value ...]

  weights=FILE      a checkpoint or a run folder (its best one); the recipe stored with it says
                    which data
  detections=FILE   COCO results, or the detections.json of infer.py: no model is needed
  against=FILE      other detections of the same images: by how much the first are better
  recipe=NAME       the data's settings, where nothing stored says them, or instead of it
  key=value         change a setting: data.root=/d/VOCdevkit data.val=[2007_test]
                    evaluate.flavours=[voc07,voc12,coco] evaluate.resamples=0
  --debug           show tracebacks

python train.py task=evaluate ... does the same.
exit codes: 0 done, 1 failed, 2 wrong command, 130 Ctrl-C, 143 SIGTERM"""

TASK = "task=evaluate"
FILES = ("weights", "detections", "against")


def evaluation_recipe(words: Sequence[str]) -> Recipe:
    """The recipe of a command line.

    Args:
        words: `key=value`; `recipe=` may be among them.

    Raises:
        ValueError: an unknown word, or nothing that says which data.
        FileNotFoundError: no such file.
    """
    for word in words:
        if "=" not in word or word.startswith("-"):
            raise ValueError(
                f"unknown word '{word}'; write weights=FILE or detections=FILE, and key=value for"
                " settings"
            )
    given = [word for word in words if not word.startswith(("recipe=", "task="))]
    tasks = [word for word in words if word.startswith("task=") and word != TASK]
    if tasks:
        raise ValueError(f"evaluate has one task, got {tasks[0]}")
    names = values(words, "recipe")
    if len(names) > 1:
        raise ValueError(f"recipe= is given {len(names)} times: {', '.join(names)}")
    settings = [*given, TASK]
    if names:
        return load_recipe(names[0], settings)
    stored = [f"{key}=null" for key in FILES if not values(words, key)]  # of an evaluation's own
    for key in FILES[:2]:
        for value in values(words, key):
            recipe = stored_recipe(Path(value), [*settings, *stored])
            if recipe is not None:
                return recipe
            raise ValueError(
                f"nothing stored with {key}={value} says which data: add recipe=NAME, such as"
                " recipe=voc0712_mixed or recipe=voc_custom data.root=DIR"
            )
    raise ValueError(
        "nothing to evaluate: give weights=FILE (a checkpoint or a run folder) or detections=FILE"
    )


def values(words: Sequence[str], key: str) -> List[str]:
    return [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]


def stored_recipe(path: Path, settings: Sequence[str]) -> Optional[Recipe]:
    """What a run folder, the folder of a file or the checkpoint itself has; None where nothing.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    folder = path if path.is_dir() else path.parent
    if (folder / CONFIG).is_file():
        return load_recipe(folder / CONFIG, settings)
    if path.suffix not in (".ckpt", ".pt", ".pth", ".safetensors"):
        return None
    from detectors.weights.source import open_source

    record = open_source(path, ema=True).record
    text = record.extra.get("recipe") if record is not None else None
    if not isinstance(text, str):
        return None
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / CONFIG
        file.write_text(text, encoding="utf-8")
        return load_recipe(file, settings)
