"""The published checkpoints that `fetch` downloads: names, addresses, preprocessing.

The eight hex digits at the end of effdet's, torchvision's and timm's file names are the start of
the file's sha256. Google publishes no hash of its tarballs; theirs is recorded when they first
arrive.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from detectors.weights.preprocess import ADVPROP, EFFDET_LITE, IMAGENET, Preprocess

EFFDET = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1/"
AUTOML = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet/"
TORCHVISION = "https://download.pytorch.org/models/"
TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/"


@dataclass(frozen=True)
class KnownCheckpoint:
    """One published file."""

    model: str
    """What it was trained as: the detectors d0 … d7x, lite0 …, or the classifiers resnet18 …,
    efficientnet-b0 …
    """
    url: str
    """Where it is published."""
    preprocess: Preprocess = IMAGENET
    """How the images it was trained on were normalised and padded."""

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def origin(self) -> str:
        """`effdet`, `torchvision`, `timm` or `automl`."""
        places = {EFFDET: "effdet", TORCHVISION: "torchvision", TIMM: "timm"}
        return next((v for k, v in places.items() if self.url.startswith(k)), "automl")

    @property
    def hash_prefix(self) -> Optional[str]:
        """The start of the sha256, where the name publishes it."""
        found = re.search(r"-([0-9a-f]{8})\.pth$", self.file_name)
        return found.group(1) if found else None


KNOWN: Dict[str, KnownCheckpoint] = {
    # effdet 0.4.1, effdet/config/model_config.py: trained by Google, converted by effdet's author
    "tf_efficientdet_d0": KnownCheckpoint("d0", EFFDET + "tf_efficientdet_d0_34-f153e0cf.pth"),
    "tf_efficientdet_d1": KnownCheckpoint("d1", EFFDET + "tf_efficientdet_d1_40-a30f94af.pth"),
    "tf_efficientdet_d2": KnownCheckpoint("d2", EFFDET + "tf_efficientdet_d2_43-8107aa99.pth"),
    "tf_efficientdet_d3": KnownCheckpoint("d3", EFFDET + "tf_efficientdet_d3_47-0b525f35.pth"),
    "tf_efficientdet_d4": KnownCheckpoint("d4", EFFDET + "tf_efficientdet_d4_49-f56376d9.pth"),
    "tf_efficientdet_d5": KnownCheckpoint("d5", EFFDET + "tf_efficientdet_d5_51-c79f9be6.pth"),
    "tf_efficientdet_d6": KnownCheckpoint("d6", EFFDET + "tf_efficientdet_d6_52-4eda3773.pth"),
    "tf_efficientdet_d7": KnownCheckpoint("d7", EFFDET + "tf_efficientdet_d7_53-6d1d7a95.pth"),
    "tf_efficientdet_d7x": KnownCheckpoint("d7x", EFFDET + "tf_efficientdet_d7x-f390b87c.pth"),
    "tf_efficientdet_d0_ap": KnownCheckpoint(
        "d0", EFFDET + "tf_efficientdet_d0_ap-d0cdbd0a.pth", ADVPROP
    ),
    "tf_efficientdet_d1_ap": KnownCheckpoint(
        "d1", EFFDET + "tf_efficientdet_d1_ap-7721d075.pth", ADVPROP
    ),
    "tf_efficientdet_d2_ap": KnownCheckpoint(
        "d2", EFFDET + "tf_efficientdet_d2_ap-a2995c19.pth", ADVPROP
    ),
    "tf_efficientdet_d3_ap": KnownCheckpoint(
        "d3", EFFDET + "tf_efficientdet_d3_ap-e4a2feab.pth", ADVPROP
    ),
    "tf_efficientdet_d4_ap": KnownCheckpoint(
        "d4", EFFDET + "tf_efficientdet_d4_ap-f601a5fc.pth", ADVPROP
    ),
    "tf_efficientdet_d5_ap": KnownCheckpoint(
        "d5", EFFDET + "tf_efficientdet_d5_ap-3673ae5d.pth", ADVPROP
    ),
    "tf_efficientdet_lite0": KnownCheckpoint(
        "lite0", EFFDET + "tf_efficientdet_lite0-dfacfc78.pth", EFFDET_LITE
    ),
    "tf_efficientdet_lite1": KnownCheckpoint(
        "lite1", EFFDET + "tf_efficientdet_lite1-6dc7ab30.pth", EFFDET_LITE
    ),
    "tf_efficientdet_lite2": KnownCheckpoint(
        "lite2", EFFDET + "tf_efficientdet_lite2-86c5d55b.pth", EFFDET_LITE
    ),
    "tf_efficientdet_lite3": KnownCheckpoint(
        "lite3", EFFDET + "tf_efficientdet_lite3-506852cb.pth", EFFDET_LITE
    ),
    "tf_efficientdet_lite3x": KnownCheckpoint(
        "lite3x", EFFDET + "tf_efficientdet_lite3x-8404c57b.pth", EFFDET_LITE
    ),
    "tf_efficientdet_lite4": KnownCheckpoint(
        "lite4", EFFDET + "tf_efficientdet_lite4-391ddabc.pth", EFFDET_LITE
    ),
    # automl's README, the coco2 table
    "automl_efficientdet_d0": KnownCheckpoint("d0", AUTOML + "coco2/efficientdet-d0.tar.gz"),
    "automl_efficientdet_d1": KnownCheckpoint("d1", AUTOML + "coco2/efficientdet-d1.tar.gz"),
    "automl_efficientdet_d2": KnownCheckpoint("d2", AUTOML + "coco2/efficientdet-d2.tar.gz"),
    "automl_efficientdet_d3": KnownCheckpoint("d3", AUTOML + "coco2/efficientdet-d3.tar.gz"),
    "automl_efficientdet_d4": KnownCheckpoint("d4", AUTOML + "coco2/efficientdet-d4.tar.gz"),
    "automl_efficientdet_d5": KnownCheckpoint("d5", AUTOML + "coco2/efficientdet-d5.tar.gz"),
    "automl_efficientdet_d6": KnownCheckpoint("d6", AUTOML + "coco2/efficientdet-d6.tar.gz"),
    "automl_efficientdet_d7": KnownCheckpoint("d7", AUTOML + "coco2/efficientdet-d7.tar.gz"),
    "automl_efficientdet_d7x": KnownCheckpoint("d7x", AUTOML + "coco2/efficientdet-d7x.tar.gz"),
    # torchvision/models/resnet.py: IMAGENET1K_V1, and V2 for those that have one
    "resnet18": KnownCheckpoint("resnet18", TORCHVISION + "resnet18-f37072fd.pth"),
    "resnet34": KnownCheckpoint("resnet34", TORCHVISION + "resnet34-b627a593.pth"),
    "resnet50": KnownCheckpoint("resnet50", TORCHVISION + "resnet50-0676ba61.pth"),
    "resnet50_v2": KnownCheckpoint("resnet50", TORCHVISION + "resnet50-11ad3fa6.pth"),
    "resnet101": KnownCheckpoint("resnet101", TORCHVISION + "resnet101-63fe2227.pth"),
    "resnet101_v2": KnownCheckpoint("resnet101", TORCHVISION + "resnet101-cd907fc2.pth"),
    # timm 1.0.31, timm/models/efficientnet.py: Google's weights, those of AutoAugment because
    # all of B0-B7 have them; the lite ones
    "tf_efficientnet_b0_aa": KnownCheckpoint(
        "efficientnet-b0", TIMM + "tf_efficientnet_b0_aa-827b6e33.pth"
    ),
    "tf_efficientnet_b1_aa": KnownCheckpoint(
        "efficientnet-b1", TIMM + "tf_efficientnet_b1_aa-ea7a6ee0.pth"
    ),
    "tf_efficientnet_b2_aa": KnownCheckpoint(
        "efficientnet-b2", TIMM + "tf_efficientnet_b2_aa-60c94f97.pth"
    ),
    "tf_efficientnet_b3_aa": KnownCheckpoint(
        "efficientnet-b3", TIMM + "tf_efficientnet_b3_aa-84b4657e.pth"
    ),
    "tf_efficientnet_b4_aa": KnownCheckpoint(
        "efficientnet-b4", TIMM + "tf_efficientnet_b4_aa-818f208c.pth"
    ),
    "tf_efficientnet_b5_aa": KnownCheckpoint(
        "efficientnet-b5", TIMM + "tf_efficientnet_b5_aa-99018a74.pth"
    ),
    "tf_efficientnet_b6_aa": KnownCheckpoint(
        "efficientnet-b6", TIMM + "tf_efficientnet_b6_aa-80ba17e4.pth"
    ),
    "tf_efficientnet_b7_aa": KnownCheckpoint(
        "efficientnet-b7", TIMM + "tf_efficientnet_b7_aa-076e3472.pth"
    ),
    "tf_efficientnet_lite0": KnownCheckpoint(
        "efficientnet-lite0", TIMM + "tf_efficientnet_lite0-0aa007d2.pth", EFFDET_LITE
    ),
    "tf_efficientnet_lite1": KnownCheckpoint(
        "efficientnet-lite1", TIMM + "tf_efficientnet_lite1-bde8b488.pth", EFFDET_LITE
    ),
    "tf_efficientnet_lite2": KnownCheckpoint(
        "efficientnet-lite2", TIMM + "tf_efficientnet_lite2-dcccb7df.pth", EFFDET_LITE
    ),
    "tf_efficientnet_lite3": KnownCheckpoint(
        "efficientnet-lite3", TIMM + "tf_efficientnet_lite3-b733e338.pth", EFFDET_LITE
    ),
    "tf_efficientnet_lite4": KnownCheckpoint(
        "efficientnet-lite4", TIMM + "tf_efficientnet_lite4-741542c3.pth", EFFDET_LITE
    ),
}


def find_known(name: str) -> Tuple[str, KnownCheckpoint]:
    """The row that a checkpoint's own name or a model's name means, any case, `-` or `_`.

    A model's name (`d2`, `efficientdet-d2`) means effdet's file.

    Raises:
        ValueError: no such row; the message has the nearest names.
    """
    plain = name.strip().lower().replace("-", "_")
    for key in (plain, f"tf_{plain}", f"tf_efficientdet_{plain}"):
        if key in KNOWN:
            return key, KNOWN[key]
    nearest = difflib.get_close_matches(plain, KNOWN, n=3) or list(KNOWN)[:9]
    raise ValueError(f"no published checkpoint is known as {name!r}; nearest: {', '.join(nearest)}")


def known_by_hash(sha256: str) -> Optional[KnownCheckpoint]:
    """The published file with this sha256, as far as its name tells; None for any other file."""
    for known in KNOWN.values():
        if known.hash_prefix is not None and sha256.startswith(known.hash_prefix):
            return known
    return None
