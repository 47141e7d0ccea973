"""Any albumentations pipeline as a change of samples, before they are fitted to the input.

The library draws from its own generators; each picture seeds them anew, so that its numbers are a
function of (seed, epoch, index) like all others. It returns labels as floats and raises without the
file's name; both end here.
"""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
from numpy.typing import NDArray

from data.sample import Sample

__all__ = ["AlbumentationsTransform", "load_pipeline"]

MISSING = """augment "albumentations" needs the package: pip install "albumentations>=1.4,<2.1" """


def library() -> Any:
    """The package, kept from looking for updates on the network.

    Raises:
        RuntimeError: it is not installed.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise RuntimeError(MISSING.strip()) from error
    return albumentations


class AlbumentationsTransform:
    """Sample -> sample, of any size; boxes of which less than a pixel is left are left out.

    Args:
        pipeline: an `A.Compose` of one's own, for pictures of 8-bit RGB; its bbox_params are
            replaced.
    """

    def __init__(self, pipeline: Any) -> None:
        package = library()
        boxes = package.BboxParams(format="pascal_voc", min_width=1, min_height=1)
        with warnings.catch_warnings():  # one that changes only colours is welcome too
            warnings.filterwarnings("ignore", message="Got processor for bboxes, but no transform")
            self.pipeline = package.Compose(pipeline.transforms, bbox_params=boxes, p=pipeline.p)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Change one picture.

        Args:
            sample: as on disk.
            seed: 0..2**32 - 1; all that the result depends on besides.

        Raises:
            ValueError: the library refuses; the message names the picture.
        """
        content: Dict[str, Any] = {
            "image": sample.image.permute(1, 2, 0).contiguous().numpy(),
            "bboxes": numbered_boxes(sample),
        }
        try:
            with np.errstate(invalid="ignore"):  # 1.4 divides by the area of what lies outside
                changed = self.run(content, seed)
        except ValueError as error:
            raise ValueError(f"albumentations refuses {sample.name}: {error}") from error
        image = np.ascontiguousarray(changed["image"])
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                "the albumentations pipeline must give (h, w, 3) uint8, without Normalize and"
                f" ToTensor, got {image.shape} {image.dtype}"
            )
        boxes = np.array(changed["bboxes"], dtype=np.float64).reshape(-1, 5)
        rows = torch.from_numpy(boxes[:, 4].round().astype(np.int64))
        return Sample(
            torch.from_numpy(image).permute(2, 0, 1),
            sample.name,
            sample.image_id,
            torch.from_numpy(boxes[:, :4].astype(np.float32)),
            sample.labels[rows],
        )

    def run(self, content: Dict[str, Any], seed: int) -> Dict[str, Any]:
        """Call the pipeline with its generators seeded."""
        if hasattr(self.pipeline, "set_random_seed"):  # 2.0 and later have their own
            self.pipeline.set_random_seed(seed)
            return dict(self.pipeline(**content))
        before = random.getstate(), np.random.get_state()
        try:
            random.seed(seed)
            np.random.seed(seed)
            return dict(self.pipeline(**content))
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def numbered_boxes(sample: Sample) -> NDArray[np.float64]:
    """(G, 5): boxes within the picture, which the library insists on, and their rows.

    As a column of the boxes the rows survive in every version; as `label_fields` they do not.
    """
    height, width = sample.original_size
    boxes = np.clip(sample.boxes.double().numpy(), 0, [width, height, width, height])
    return np.concatenate([boxes, np.arange(float(len(boxes)))[:, None]], axis=1)


def load_pipeline(path: Path) -> AlbumentationsTransform:
    """A pipeline that `A.save` wrote, .json or .yaml.

    Raises:
        FileNotFoundError: no such file.
        RuntimeError: albumentations is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"augment.compose {path}: no such file (A.save writes one)")
    form = "json" if path.suffix == ".json" else "yaml"
    return AlbumentationsTransform(library().load(str(path), data_format=form))
