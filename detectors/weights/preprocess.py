"""What a checkpoint expects of its images; bound to the weights because no tensor tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Tuple

Colour = Tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """Normalisation (image - mean) / std of RGB values 0..255, and the colour of the padding."""

    name: str
    """What people call it."""
    mean: Colour
    """Red, green, blue."""
    std: Colour
    """As `mean`."""
    pad: Tuple[int, int, int]
    """RGB of the padding right and below the image."""

    def to_record(self) -> Dict[str, Any]:
        """Plain types for a file."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


IMAGENET = Preprocess(
    "imagenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (124, 116, 104)
)
ADVPROP = Preprocess("advprop", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5), (0, 0, 0))
"""As effdet's `_ap` models, which pad with black."""
EFFDET_LITE = Preprocess(
    "effdet-lite", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5), (128, 128, 128)
)
AUTOML_LITE = Preprocess(
    "automl-lite", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), (127, 127, 127)
)
MSRA = Preprocess("msra", (123.675, 116.28, 103.53), (1.0, 1.0, 1.0), (124, 116, 104))
CAFFE = Preprocess("caffe", (122.7717, 115.9465, 102.9801), (1.0, 1.0, 1.0), (123, 116, 103))
"""Both are given for BGR there; here, and in the converted weights, red comes first."""

NAMED: Dict[str, Preprocess] = {
    preprocess.name: preprocess for preprocess in (IMAGENET, ADVPROP, EFFDET_LITE, AUTOML_LITE)
}
"""Those of EfficientDet's weights, which may have to be asked for."""


def from_statistics(mean: Colour, std: Colour) -> Preprocess:
    """The named preprocessing with this mean and std, or a custom one padded with the mean."""
    for preprocess in (*NAMED.values(), MSRA, CAFFE):
        if (preprocess.mean, preprocess.std) == (mean, std):
            return preprocess
    red, green, blue = (round(value) for value in mean)
    return Preprocess("custom", mean, std, (red, green, blue))


def from_record(record: Mapping[str, Any]) -> Preprocess:
    """The inverse of `to_record`.

    Raises:
        ValueError: a key is missing or of the wrong kind.
    """
    try:
        mean, std, pad = (tuple(record[key]) for key in ("mean", "std", "pad"))
        if not len(mean) == len(std) == len(pad) == 3 or min(std) <= 0:
            raise ValueError("three channels expected, std positive")
        return Preprocess(str(record["name"]), mean, std, pad)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint record: preprocess {record} is not usable: {error}") from None
