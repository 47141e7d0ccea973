"""What becomes of weights' class head in a model: taken whole, rows kept by name, or none kept; and
a refusal that names both lists of classes.
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence, Tuple

from torch import Tensor

from detectors.weights.class_rows import shared_classes, take_shared
from detectors.weights.family import FAMILIES, Config, family_of

__all__ = ["HEADS", "OtherClassesError", "fit_head", "in_words", "listed"]

HEADS = (None, "new", "map")
"""How weights' class rows are taken: all or refused, none, those of classes with equal names."""

Names = Optional[Sequence[Optional[str]]]


class OtherClassesError(ValueError):
    """Weights for other classes than the model's; who knows the caller's words says the way on.

    Args:
        message: for callers of `load_weights`.
        count: of the weights' classes.
        names: of them, as far as they are known.
    """

    def __init__(self, message: str, count: int, names: Tuple[str, ...]) -> None:
        super().__init__(message)
        self.count = count
        self.names = names

    @property
    def saved(self) -> str:
        """The weights' classes, in words."""
        return in_words(self.count, self.names)


def fit_head(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    saved: Tuple[int, Names],
    classes: Names,
    head: Optional[str],
    config: Config,
) -> Tuple[Dict[str, Tensor], str]:
    """The weights as the model takes them, and what became of their class rows, in words.

    Args:
        own: the model's state.
        state: the weights', under its names.
        saved: how many classes the weights have, and their names if they are known.
        classes: the model's names by label, None if the caller did not say.
        head: one of `HEADS`.
        config: of the model.

    Raises:
        OtherClassesError: other classes without a `head`, or no name that both have with "map".
        ValueError: "map", and the caller did not say the names.
    """
    count, names = saved
    known = _known(names)
    if head is None:
        _require_same(count, names, classes, config)
        return dict(state), ""
    family = FAMILIES[family_of(config)]
    if head == "new":
        words = f"no row kept; new: {listed(_known(classes))}" if classes else "no row kept"
        return {k: v for k, v in state.items() if not k.startswith(family.head)}, words
    if classes is None:
        raise ValueError('head="map" keeps rows by name: give the model\'s names as classes=')
    shared = shared_classes(names, classes)
    if not shared:
        raise OtherClassesError(
            f"{_both(count, known, classes, config)}: no name is in both\n"
            '  head="new" keeps the features and starts a new class head',
            count,
            known,
        )
    kept = [name for label, name in enumerate(classes) if name and label in shared]
    new = [name for label, name in enumerate(classes) if name and label not in shared]
    words = f"rows kept of {listed(kept)}; " + (f"new: {listed(new)}" if new else "none is new")
    return {**state, **take_shared(own, state, shared, config, family)}, words


def _require_same(count: int, names: Names, classes: Names, config: Config) -> None:
    """Raise if the weights have other classes than the model."""
    same_names = names is None or classes is None or tuple(names) == tuple(classes)
    if count == config.num_classes and same_names:
        return
    known = _known(names)
    lines = [_both(count, known, classes, config)]
    kept = [str((classes or ())[label]) for label in shared_classes(names, classes)]
    if kept:
        lines.append(f'  head="map" keeps the rows of {listed(kept)}')
    lines.append('  head="new" keeps the features and starts a new class head')
    if count != config.num_classes:
        lines.append(f"  num_classes={count} takes the weights as they are")
    raise OtherClassesError("\n".join(lines), count, known)


def _both(count: int, known: Tuple[str, ...], classes: Names, config: Config) -> str:
    ours = in_words(config.num_classes, _known(classes)).replace(" classes", "", 1)
    return f"weights: {in_words(count, known)}; model: {ours}"


def _known(names: Names) -> Tuple[str, ...]:
    return tuple(name for name in names or () if name)


def in_words(count: int, names: Tuple[str, ...]) -> str:
    """`3 classes (cat, dog, cow)`, `20 classes (aeroplane … tvmonitor)`."""
    shown = ", ".join(names) if len(names) <= 5 else f"{names[0]} … {names[-1]}"
    return f"{count} classes ({shown})" if names else f"{count} classes"


def listed(names: Sequence[str]) -> str:
    """`cat, dog`, or the first few and how many more."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
