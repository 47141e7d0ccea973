"""A script that people have: torchvision's classifier into our backbone, as it stands."""

from __future__ import annotations

from typing import Any, Dict

import pytest

SCRIPT = """\
import torch
import torchvision

from detectors import faster_rcnn

model = faster_rcnn("r50_c4", num_classes=20, image_size=64)
backbone = model.network.backbone
peer = torchvision.models.resnet50()
result = backbone.load_state_dict(peer.state_dict(), strict=False)
print("missing", result.missing_keys, "unexpected", result.unexpected_keys)

image = torch.rand(1, 3, 64, 64)
stem = peer.eval().maxpool(peer.relu(peer.bn1(peer.conv1(image))))
theirs = peer.layer3(peer.layer2(peer.layer1(stem)))
torch.testing.assert_close(backbone(image), theirs, rtol=1e-3, atol=1e-3)
"""


def test_torchvisions_state_dict_goes_in_with_only_fc_left_over() -> None:
    pytest.importorskip("torchvision")
    assert len(SCRIPT.splitlines()) == 15
    names: Dict[str, Any] = {}
    exec(SCRIPT, names)  # the constant above
    assert names["result"].missing_keys == []
    assert sorted(names["result"].unexpected_keys) == ["fc.bias", "fc.weight"]
