"""EfficientDet D0 in two stages on two ranks finds what it finds in one process."""

from __future__ import annotations

import torch

from detectors import efficientdet
from detectors.models.efficientdet.random_weights import spread_outputs
from detectors.splits import apply_splits
from poplar_ops.runtime import poptorch

if __name__ == "__main__":
    torch.set_num_threads(1)
    images = torch.randint(
        0, 256, (4, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = []
    for schedule in ("sequential", "1f1b", "gpipe"):
        poptorch.host.configure(schedule=schedule)
        torch.manual_seed(0)
        model = efficientdet("efficientdet_d0", num_classes=5, image_size=(128, 128))
        spread_outputs(model, logits_std=3.0)
        apply_splits(model, ["class_head"])
        options = poptorch.Options().deviceIterations(4)
        found.append(poptorch.inferenceModel(model, options)(images))
    assert found[0][3].min() > 0, found[0]  # detections in every picture
    for other in found[1:]:
        for expected, got in zip(found[0], other):
            assert torch.equal(expected, got)
    print("all claims hold", flush=True)
