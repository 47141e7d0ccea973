"""The inference module: dtypes, static shapes, and what can be changed around the network."""

from __future__ import annotations

from typing import Iterator, List

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from detectors import MODELS, efficientdet
from detectors.folding import fold_batch_norm
from detectors.postprocess import Candidates, PostprocessConfig

EVERYTHING = PostprocessConfig(score_threshold=0.0, top_k=100, max_detections=20)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8, generator=generator)


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_detections_have_fixed_shapes_and_types(dtype: torch.dtype, images: torch.Tensor) -> None:
    model = efficientdet("d0", image_size=128, postprocess=EVERYTHING).to(dtype)
    out = model(images)
    assert out.boxes.shape == (2, 20, 4)
    assert out.boxes.dtype == torch.float32
    assert out.scores.shape == (2, 20)
    assert out.scores.dtype == torch.float32
    assert out.labels.shape == (2, 20)
    assert out.labels.dtype == torch.int32
    assert out.count.tolist() == [20, 20]


def test_uint8_and_float_images_are_the_same(images: torch.Tensor) -> None:
    model = efficientdet("d0", image_size=128, nms="none")
    assert torch.equal(model(images).boxes, model(images.float()).boxes)


def test_normalisation_by_hand() -> None:
    model = efficientdet("d0", image_size=64)
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(model.normalise(pixels).flatten(), expected)


def test_nms_on_the_host_gives_the_devices_detections(images: torch.Tensor) -> None:
    model = efficientdet("d0", image_size=128, postprocess=EVERYTHING)
    expected = model(images)
    model.nms = "none"
    candidates = model(images)
    assert isinstance(candidates, Candidates)
    for actual, wanted in zip(model.postprocess.select(candidates), expected):
        assert torch.equal(actual, wanted)


def test_another_image_size_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expects images of \(512, 512\).*got \(128, 128\)"):
        efficientdet("d0")(images)


def test_configure_changes_surroundings_and_keeps_weights(images: torch.Tensor) -> None:
    model = efficientdet("d0", image_size=64, nms="none")
    weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.configure(
        image_size=128, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), anchor_aspects="rounded"
    )
    assert model.config.image_size == (128, 128)
    assert torch.equal(model.normalise(images), images.float())
    size = model.postprocess.anchors()[1, 2:] - model.postprocess.anchors()[1, :2]
    torch.testing.assert_close(size, torch.tensor([44.8, 22.4]))
    assert all(torch.equal(v, weights[k]) for k, v in model.network.state_dict().items())
    assert model(images).boxes.shape == (2, 3069, 4)


def test_configure_follows_the_networks_precision() -> None:
    model = efficientdet("d0", image_size=64).half().configure(image_size=128)
    assert model.normalise.mean.dtype == torch.float16
    assert model.postprocess.anchors().dtype == torch.float32


def test_state_dict_is_the_networks_alone() -> None:
    assert all(name.startswith("network.") for name in efficientdet("d0").state_dict())


def fake_outputs(name: str, settings: PostprocessConfig) -> List[torch.Tensor]:
    with torch.device("meta"):
        model = fold_batch_norm(efficientdet(name, postprocess=settings)).half()
    with FakeTensorMode(allow_non_fake_inputs=True):  # raises if a shape or branch needs values
        model.to_empty(device="cpu")
        return list(model(torch.zeros(2, 3, *model.config.image_size, dtype=torch.uint8)))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_static_shapes(name: str) -> None:
    out = fake_outputs(name, PostprocessConfig())
    assert [tuple(x.shape) for x in out] == [(2, 100, 4), (2, 100), (2, 100), (2,)]
    assert [x.dtype for x in out] == [torch.float32, torch.float32, torch.int32, torch.int32]


@pytest.mark.parametrize("top_k", [0, 5000])
@pytest.mark.parametrize("multiclass", [False, True])
def test_every_selection_has_static_shapes(top_k: int, multiclass: bool) -> None:
    out = fake_outputs("d0", PostprocessConfig(top_k=top_k, multiclass=multiclass))
    assert [tuple(x.shape) for x in out] == [(2, 100, 4), (2, 100), (2, 100), (2,)]
