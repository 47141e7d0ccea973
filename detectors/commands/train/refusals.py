"""Why weights do not fit a recipe, and the words of a command line that would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from detectors.models.efficientdet.config import CONFIGS as EFFICIENTDETS
from detectors.models.faster_rcnn.config import CONFIGS as VARIANTS
from detectors.weights.class_head import OtherClassesError, in_words, listed
from detectors.weights.family import Config
from detectors.weights.fit import value

__all__ = ["keys_of", "other_classes"]

KEYS = {"anchor_scale": "pyramid.scale", "anchor_octaves": "pyramid.octaves"}
"""Field of a configuration -> what a recipe calls it below `model`, where that differs."""
OF_A_NAME = ("backbone", "fusion", "activation")
"""Fields that come with the name of an EfficientDet."""


def other_classes(
    error: OtherClassesError,
    class_names: Sequence[Optional[str]],
    path: Optional[Path] = None,
    head: Optional[str] = None,
) -> str:
    """Both lists of classes, and what would do.

    Args:
        error: of the load.
        class_names: of the data, by label.
        path: of the weights, to fine-tune from; None where nothing is trained.
        head: what was asked for.
    """
    shared = [name for name in class_names if name and name in error.names]
    named = tuple(name for name in class_names if name)  # a detector may have unused labels
    data = in_words(len(class_names), named).replace(" classes", "", 1)
    lines = [f"checkpoint: {error.saved}; data: {data}"]
    if head == "map":
        lines[0] += "; no name is in both, so head=map has no row to keep"
    if path is not None and shared:
        lines.append(f"  to fine-tune: weights={path} head=map keeps the rows of {listed(shared)}")
        lines.append(f"            or: weights={path} head=new keeps none")
    elif path is not None:
        lines.append(f"  to fine-tune: weights={path} head=new")
    if error.names == named:  # the same in other slots
        lines.append(f"  to map: data.labels={'order' if None in class_names else 'ids'}")
    elif error.names and len(error.names) == error.count:
        lines.append(f"  to map: data.classes=[{','.join(error.names)}]")
    return "\n".join(lines)


def keys_of(settings: Dict[str, Any], config: Config) -> str:
    """The words of a recipe that give the model the form of the weights.

    Args:
        settings: as `OtherFormError` has them.
        config: of the model: where its name or variant is the weights', naming it changes nothing,
            and what differs was set beside it.
    """
    words: List[str] = []
    implied: Any = None
    if getattr(config, "variant", config.name) in (settings.get("variant"), settings.get("name")):
        pass  # nothing is implied
    elif "variant" in settings:
        words, implied = [f"model.variant={settings['variant']}"], VARIANTS[settings["variant"]]
    elif settings.get("name") in EFFICIENTDETS:
        words, implied = [f"model.name={settings['name']}"], EFFICIENTDETS[settings["name"]]
    for name, wanted in settings.items():
        if name in ("variant", "name", *OF_A_NAME):
            continue
        if implied is not None and value(implied, name) == wanted:
            continue
        text = str(list(wanted) if isinstance(wanted, tuple) else wanted)
        words.append(f"model.{KEYS.get(name, name)}={text.lower().replace(' ', '')}")
    return f"  set {' '.join(words)}"
