"""Albumentations behind one adapter."""

from __future__ import annotations

import importlib.util
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.albumentations import AlbumentationsTransform, library, load_pipeline
from data.augmentation import Augmentation
from data.fitting import Fit
from data.generated import GeneratedImages
from data.placed_images import TrainingImages
from data.sample import Sample

INSTALLED = importlib.util.find_spec("albumentations") is not None
needs_library = pytest.mark.skipif(not INSTALLED, reason="albumentations is not installed")


@pytest.fixture(scope="module")
def package() -> Any:
    return library()


@pytest.fixture
def sample() -> Sample:
    image = torch.randint(256, (3, 40, 60), generator=torch.Generator().manual_seed(0)).byte()
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0], [50.0, 30.0, 60.0, 40.0], [5.0, 5.0, 55.0, 35.0]])
    return Sample(image, "a.jpg", 1, boxes, torch.tensor([3, -1, 7]))


@needs_library
def test_boxes_and_labels_follow_the_picture(package: Any, sample: Sample) -> None:
    flipped = AlbumentationsTransform(package.Compose([package.HorizontalFlip(p=1.0)]))(sample, 0)
    assert torch.equal(flipped.image, sample.image.flip(-1))
    torch.testing.assert_close(
        flipped.boxes,
        torch.tensor([[50.0, 0.0, 60.0, 20.0], [0.0, 30.0, 10.0, 40.0], [5.0, 5.0, 55.0, 35.0]]),
    )
    assert flipped.labels.tolist() == [3, -1, 7]
    assert flipped.labels.dtype == torch.int64


@needs_library
def test_a_pipeline_goes_to_workers_that_are_spawned(package: Any, sample: Sample) -> None:
    # It held the library itself, and a module cannot be pickled: no workers on macOS and Windows.
    transform = AlbumentationsTransform(package.Compose([package.HorizontalFlip(p=1.0)]))
    sent = pickle.loads(pickle.dumps(transform))
    assert torch.equal(sent(sample, 0).image, transform(sample, 0).image)


@needs_library
def test_boxes_that_are_cut_away_take_their_labels_with_them(package: Any, sample: Sample) -> None:
    crop = package.Crop(x_min=20, y_min=0, x_max=60, y_max=40)
    cut = AlbumentationsTransform(package.Compose([crop]))(sample, 0)
    assert cut.original_size == (40, 40)
    assert cut.labels.tolist() == [-1, 7]
    torch.testing.assert_close(
        cut.boxes, torch.tensor([[30.0, 30.0, 40.0, 40.0], [0.0, 5.0, 35.0, 35.0]])
    )


@needs_library
def test_the_seed_decides_and_nothing_else(package: Any, sample: Sample) -> None:
    jitter = package.RandomBrightnessContrast(p=1.0)
    change = AlbumentationsTransform(package.Compose([package.HorizontalFlip(p=0.5), jitter]))
    random.seed(5)
    np.random.seed(5)
    state = random.getstate()
    one = change(sample, 11)
    assert random.getstate() == state
    random.seed(6)
    np.random.seed(6)
    assert torch.equal(change(sample, 11).image, one.image)
    assert not torch.equal(change(sample, 12).image, one.image)


@needs_library
def test_pictures_without_boxes_pass(package: Any) -> None:
    empty = Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), "a", 1)
    changed = AlbumentationsTransform(package.Compose([package.HorizontalFlip(p=1.0)]))(empty, 0)
    assert changed.boxes.shape == (0, 4)
    assert changed.labels.shape == (0,)


@needs_library
def test_a_pipeline_that_gives_no_picture_is_refused(package: Any, sample: Sample) -> None:
    change = AlbumentationsTransform(package.Compose([package.Normalize()]))
    with pytest.raises(ValueError, match=r"must give \(h, w, 3\) uint8, without Normalize"):
        change(sample, 0)


@needs_library
def test_training_takes_it_first_and_counts_what_it_cuts(package: Any) -> None:
    dataset = GeneratedImages(2, (64, 64))
    crop = package.Crop(x_min=0, y_min=0, x_max=1, y_max=1)
    change = AlbumentationsTransform(package.Compose([crop]))
    images = TrainingImages(dataset, Fit((32, 32)), Augmentation(), 0, first=change)
    placed = images[1]
    assert placed.placement.original_size == (1, 1)
    assert placed.placement.cut + len(placed.boxes) == len(dataset[1].boxes)


@needs_library
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_saved_pipeline_is_loaded(
    package: Any, sample: Sample, tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"pipeline.{form}"
    package.save(package.Compose([package.HorizontalFlip(p=1.0)]), str(path), data_format=form)
    assert torch.equal(load_pipeline(path)(sample, 0).image, sample.image.flip(-1))
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_pipeline(tmp_path / "none.yaml")


def test_its_absence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(RuntimeError, match='pip install "albumentations'):
        library()


@needs_library
def test_slivers_of_boxes_are_left_out(package: Any, sample: Sample) -> None:
    # The first box ends at x = 10: half a pixel of it is left, whose logarithm means nothing.
    boxes = sample.boxes + torch.tensor([0.0, 0.0, 0.5, 0.0])
    changed = Sample(sample.image, sample.name, 1, boxes, sample.labels)
    crop = package.Crop(x_min=10, y_min=0, x_max=60, y_max=40)
    assert AlbumentationsTransform(package.Compose([crop]))(changed, 0).labels.tolist() == [-1, 7]
