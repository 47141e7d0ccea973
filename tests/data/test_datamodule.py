"""Lightning gets every picture in the order of (seed, step), also after it was interrupted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, List, Optional

import lightning.pytorch as lightning
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from data.annotations import AnnotatedImages, BoxList, pack
from data.augmentation import Augmentation
from data.collate import Batch
from data.datamodule import DetectionData
from data.fitting import Fit
from data.generated import GeneratedImages
from data.placed_images import TrainingImages
from data.reading import UnreadableImageError
from data.sampler import Order, StepSampler


class Watcher(lightning.LightningModule):
    """Learns nothing; notes what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.trained: List[int] = []
        self.validated: List[str] = []

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.trained += batch.keys.tolist()
        return self.weight.sum() + batch.images.float().mean()

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validated += [placement.name for placement in batch.placements]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_data(**settings: Any) -> DetectionData:
    asked: Dict[str, Any] = {
        "fit": Fit((32, 32)),
        "augmentation": Augmentation(flip=0.5),
        "seed": 5,
        "micro_batch_size": 2,
        "images_per_step": 4,
        "max_boxes": 6,
        **settings,
    }
    train, val = GeneratedImages(7, (32, 48)), GeneratedImages(3, (32, 48), seed=1)
    return DetectionData(train, asked.pop("val", val), **asked)


def make_trainer(folder: Path, **settings: Any) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        accumulate_grad_batches=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )


def keys_of(data: DetectionData, steps: int) -> List[int]:
    draws = StepSampler(Order(7, 5), 4, steps)
    return [data.training[draw].key for draw in draws]


def test_a_run_is_one_epoch_in_the_order_of_its_steps(tmp_path: Path) -> None:
    data, module = make_data(steps=5), Watcher()
    trainer = make_trainer(tmp_path, max_steps=5, limit_val_batches=0)
    trainer.fit(module, data)
    assert trainer.global_step == 5
    assert module.trained == keys_of(data, 5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path, workers: int) -> None:
    first, second = Watcher(), Watcher()
    trainer = make_trainer(tmp_path, max_steps=3, limit_val_batches=0)
    trainer.fit(first, make_data(steps=8, workers=workers, val=None))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    data = make_data(steps=8, workers=workers, val=None)
    later = make_trainer(tmp_path, max_steps=8, limit_val_batches=0)
    later.fit(second, data, ckpt_path=str(tmp_path / "last.ckpt"))
    assert later.global_step == 8
    assert first.trained + second.trained == keys_of(data, 8)


def test_a_checkpoint_of_another_order_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(Watcher(), make_data(steps=4))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    later = make_trainer(tmp_path, max_steps=4, limit_val_batches=0)
    with pytest.raises(ValueError, match="trained with seed 5, now it is 6"):
        later.fit(Watcher(), make_data(steps=4, seed=6), ckpt_path=str(tmp_path / "last.ckpt"))


def test_validation_between_steps_changes_no_order(tmp_path: Path) -> None:
    data, module = make_data(steps=4), Watcher()
    make_trainer(tmp_path, max_steps=4, val_check_interval=4, num_sanity_val_steps=0).fit(
        module, data
    )
    assert module.trained == keys_of(data, 4)
    assert module.validated == 2 * GeneratedImages(3).names


def test_without_steps_the_trainer_counts_epochs(tmp_path: Path) -> None:
    data, module = make_data(micro_batch_size=7, images_per_step=7), Watcher()
    trainer = make_trainer(tmp_path, max_epochs=2, limit_val_batches=0)
    trainer.fit(module, data)
    order = Order(7, 5)
    assert module.trained == [data.training[order.draw(place)].key for place in range(14)]


def test_a_step_must_be_whole_batches() -> None:
    with pytest.raises(ValueError, match=r"images per step \(4\) must be a multiple"):
        make_data(micro_batch_size=3)


def test_boxes_without_room_are_counted(tmp_path: Path) -> None:
    data, module = make_data(steps=2, max_boxes=1), Watcher()
    make_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(module, data)
    boxes = [len(GeneratedImages(7, (32, 48))[d % 7].boxes) for d in StepSampler(Order(7, 5), 4, 2)]
    assert data.overflow == sum(max(0, number - 1) for number in boxes) > 0


class Spoiled(GeneratedImages):
    """Some pictures turn bad while training."""

    def __init__(self, bad: List[int]) -> None:
        super().__init__(7, (32, 48))
        self.bad: List[int] = []
        assert len(self.annotations) == 7  # made while all can be read
        self.bad = bad

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            raise UnreadableImageError(f"{self.names[index]}: truncated")
        return super().__getitem__(index)


def images(bad: List[int], skip_bad: bool, seed: int = 5) -> TrainingImages:
    return TrainingImages(Spoiled(bad), Fit((32, 32)), Augmentation(), seed, skip_bad=skip_bad)


def test_a_picture_that_turns_bad_is_replaced_by_a_function_of_seed_and_draw() -> None:
    replaced = [images([2], True)[2 + 7 * epoch].placement for epoch in range(6)]
    again = [images([2], True)[2 + 7 * epoch].placement for epoch in range(6)]
    assert replaced == again
    assert {placement.instead_of for placement in replaced} == {"generated_000002.png"}
    names = {placement.name for placement in replaced}
    assert "generated_000002.png" not in names
    assert len(names) > 1  # not always the same one instead
    whole = images([], True)[3]
    assert images([2], True)[3].placement == whole.placement
    assert whole.placement.instead_of == ""


def test_a_picture_that_turns_bad_stops_unless_it_is_to_be_skipped() -> None:
    with pytest.raises(RuntimeError, match=r"generated_000002.png: truncated\ndata.skip_bad=true"):
        images([2], False)[2]
    with pytest.raises(RuntimeError, match="10 images in turn cannot be read, the first is gen"):
        images(list(range(7)), True)[2]


def test_replaced_pictures_are_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, module = make_data(steps=4), Watcher()
    data.training = images([2, 5], True)
    with caplog.at_level(logging.WARNING, logger="data.datamodule"):
        make_trainer(tmp_path, max_steps=4, limit_val_batches=0).fit(module, data)
    assert sorted(data.replaced) == ["generated_000002.png", "generated_000005.png"]
    told = [record.getMessage() for record in caplog.records if record.name == "data.datamodule"]
    assert len(told) == 2
    assert told[0].startswith(f"cannot read {data.replaced[0]} any more: generated_")


def test_boxes_beyond_a_picture_of_wrong_size_never_reach_training(tmp_path: Path) -> None:
    # Annotated as 60x40, the file is 30x20: a clipped box would have no width and no logarithm.
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    boxes = [(35.0, 5.0, 55.0, 15.0), (5.0, 5.0, 35.0, 15.0)]
    none: Optional[List[Any]] = [False, False]
    entry = BoxList("a.png", 1, (40, 60), boxes, [0, 0], none or [], none or [], [])
    sample = AnnotatedImages(tmp_path, pack([entry], ["cat"]))[0]
    assert sample.boxes.tolist() == [[5.0, 5.0, 30.0, 15.0]]
    assert sample.labels.tolist() == [0]


def test_blank_batches_have_the_form_of_real_ones_and_read_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = next(iter(make_data().train_dataloader()))
    broken = make_data(blank=True)
    monkeypatch.setattr(TrainingImages, "__getitem__", lambda *_: pytest.fail("it was read"))
    blank = next(iter(broken.train_dataloader()))
    for one, other in zip(real.tensors, blank.tensors):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert blank.overflow == 0


def test_two_processes_validate_on_every_picture(tmp_path: Path) -> None:
    names = []
    for which in range(2):
        loader = make_data(share=(which, 2)).val_dataloader()
        names.append([placement.name for batch in loader for placement in batch.placements])
    assert [len(each) for each in names] == [2, 2]  # of three
    assert len(set(names[0] + names[1])) == 3
