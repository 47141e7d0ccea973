"""What `load_weights` did, on one screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from detectors.models.efficientdet.config import AnchorAspects
from detectors.weights.category_ids import CategoryIds
from detectors.weights.preprocess import Preprocess


@dataclass(frozen=True)
class LoadReport:
    """Every tensor of the model was filled, or the load was refused; this says from what."""

    path: Path
    """The file or checkpoint."""
    origin: str
    """As `Source.origin`: `effdet`, `torchvision`, `detectors`, …"""
    model: str
    """The detector that was filled."""
    sha256: str
    """Of the file; of index and data in turn for a TensorFlow checkpoint."""
    num_tensors: int
    """How many of the model's tensors came from the file."""
    num_values: int
    """How many numbers that is."""
    kept: Tuple[str, ...]
    """Tensors that kept the model's own values: a new head, and counters torch alone has."""
    skipped: Tuple[str, ...]
    """What the file holds beside the weights: step counters, optimizer state, anchors."""
    averaged: str
    """Which copy of the weights was used, in words."""
    converted: Tuple[str, ...]
    """What was changed on the way, in words."""
    preprocess: Preprocess
    """What the images must be put through; mean and std are set in the model."""
    anchor_aspects: AnchorAspects
    """Form of the anchors, or their shapes; EfficientDet's are set in the model."""
    class_names: Optional[Tuple[Optional[str], ...]]
    """Names by label, None for an unused label; None if the file does not tell."""
    notes: Tuple[str, ...]
    """What the file could not tell and was assumed."""
    head: str = ""
    """What became of a new head, in words."""
    category_ids: CategoryIds = None
    """Of each label in the annotations of the weights' data, None for an unused label; None if the
    file does not tell, or the head is new.
    """
    extra: Dict[str, Any] = field(default_factory=dict)
    """What the maker of one of our checkpoints added to its record."""

    @property
    def new(self) -> Tuple[str, ...]:
        """`kept` without counters: what starts from random values."""
        return tuple(name for name in self.kept if not name.endswith("num_batches_tracked"))

    @property
    def of(self) -> str:
        """The origin, and whether these are averages."""
        averages = self.averaged.startswith("moving average")
        return f"{self.origin}, moving average" if averages else self.origin

    @property
    def brief(self) -> str:
        """The report in half a line: the file, and what is not from it."""
        parts = sorted({name.split(".")[0] for name in self.new})
        new = f"{len(self.new)} new tensors ({', '.join(parts)})" if parts else ""
        words = [f"{self.path.name} ({self.of})", new, self.head]
        return ", ".join(word for word in words if word)

    def render(self) -> str:
        """The report as at most twelve lines of text."""
        names = [name for name in self.class_names or () if name is not None]
        pre = self.preprocess
        lines = [
            f"weights     {self.path.name} ({self.origin}) -> {self.model}",
            f"sha256      {self.sha256}",
            f"tensors     {self.num_tensors} used ({self.num_values:,} values), 0 missing,"
            f" 0 mismatched, {len(self.skipped)} skipped{_some(self.skipped)}",
            f"copy        {self.averaged}",
            f"converted   {'; '.join(self.converted) or 'nothing'}",
            f"images      {pre.name}: RGB, mean {_colour(pre.mean)}, std {_colour(pre.std)},"
            f" padding {pre.pad}",
            f"anchors     {_aspects(self.anchor_aspects)}",
            f"classes     {len(names)} names ({names[0]} … {names[-1]})" if names else "",
            f"head        {self.head}" if self.head else "",
            f"new         {len(self.new)} tensors keep their random values{_some(self.new)}"
            if self.new
            else "",
        ]
        lines += [f"note        {note}" for note in self.notes[:3]]
        return "\n".join(line for line in lines if line)


def _some(names: Tuple[str, ...]) -> str:
    """The first names in brackets."""
    if not names:
        return ""
    return f" ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"


def _aspects(aspects: AnchorAspects) -> str:
    """`exact aspect ratios`, or the shapes."""
    if isinstance(aspects, str):
        return f"{aspects} aspect ratios"
    return "shapes " + ", ".join(f"{width:g}x{height:g}" for width, height in aspects)


def _colour(values: Tuple[float, float, float]) -> str:
    return "/".join(f"{value:g}" for value in values)
