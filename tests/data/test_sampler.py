"""The order of pictures: a function of (seed, epoch, step) that can be entered anywhere."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data.augmentation import Augmentation
from data.collate import Batch, Placed
from data.fitting import Fit
from data.generated import GeneratedImages
from data.placed_images import EvaluationImages, TrainingImages, collator
from data.randomness import generator, key_of
from data.sampler import EpochSampler, Order, StepSampler, shared_out


def test_every_epoch_holds_every_picture_once() -> None:
    order = Order(10, seed=3)
    epochs = [[order.draw(position) for position in range(10 * e, 10 * e + 10)] for e in range(3)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == list(range(10 * number, 10 * number + 10))
    assert [d % 10 for d in epochs[0]] != [d % 10 for d in epochs[1]]


def test_the_order_is_the_same_on_both_tiers() -> None:
    # Pinned: NumPy promises the stream of PCG64 but not of permutation().
    assert Order(8, seed=0).epoch(1).tolist() == [1, 3, 7, 6, 0, 4, 2, 5]
    np.testing.assert_allclose(
        generator(1, 2, 3).random(2), [0.6704722626516632, 0.1110146366693816], rtol=1e-12
    )


def test_without_shuffling_the_order_is_the_lists() -> None:
    assert Order(4, 0, shuffle=False).epoch(7).tolist() == [0, 1, 2, 3]


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees() -> None:
    order = Order(7, seed=1)
    whole = list(StepSampler(order, 4, 10))
    resumed = StepSampler(Order(7, seed=1), 4, 10, start=6)
    assert list(resumed) == whole[24:]
    assert len(resumed) == len(whole)  # Lightning adds what lies behind
    assert resumed.indices(6) == [draw % 7 for draw in whole[24:28]]


def test_no_picture_is_lost_where_batches_cross_epochs() -> None:
    draws = list(StepSampler(Order(7, seed=1), 4, 7))  # 28 draws: four epochs
    assert sorted(draws) == list(range(28))


def test_epochs_can_be_entered_one_by_one() -> None:
    order = Order(5, seed=3)
    sampler = EpochSampler(order)
    whole = list(StepSampler(order, 5, 3))
    for epoch in (0, 2, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == whole[5 * epoch : 5 * epoch + 5]
    assert len(sampler) == 5


def test_replicas_share_the_same_global_batches() -> None:
    order = Order(9, seed=2)
    one = StepSampler(order, 4, 5)
    two = [StepSampler(order, 4, 5, replica=(rank, 2)) for rank in range(2)]
    for step in range(5):
        assert two[0].draws(step) + two[1].draws(step) == one.draws(step)
    with pytest.raises(ValueError, match="4 images per step cannot be shared by 3 replicas"):
        StepSampler(order, 4, 5, replica=(0, 3))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no picture"):
        Order(0, 0)


def test_keys_are_31_bits_and_differ() -> None:
    keys = {key_of(s, e, i) for s in range(3) for e in range(10) for i in range(300)}
    assert len(keys) > 8990  # of 9000; by chance two of 2**31 meet in 2 % of such sets
    assert all(0 <= key < 2**31 for key in keys)
    assert key_of(0, 1, 2) == 2054797739


def test_workers_change_nothing() -> None:
    images = TrainingImages(
        GeneratedImages(5, (32, 48)), Fit((32, 32)), Augmentation(flip=0.5, scale=(0.7, 1.2)), 4
    )

    def run(workers: int) -> List[Batch]:
        sampler = StepSampler(Order(5, seed=4), 2, 4)
        loader: DataLoader[Placed] = DataLoader(
            images,  # type: ignore[arg-type]  # has a length and items, as DataLoader asks
            batch_size=2,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collator(6),
        )
        return list(loader)

    for one, other in zip(run(0), run(2)):
        for tensor, same in zip(one.tensors, other.tensors):
            assert torch.equal(tensor, same)
        assert one.placements == other.placements


def test_the_same_picture_changes_from_epoch_to_epoch() -> None:
    dataset = GeneratedImages(3, (32, 48))
    images = TrainingImages(dataset, Fit((32, 32)), Augmentation(scale=(0.5, 1.5)), 0)
    first, later = images[1], images[4]
    assert first.placement.name == later.placement.name == dataset.names[1]
    assert first.key != later.key
    assert not torch.equal(first.image, later.image)


def test_evaluation_draws_nothing_but_has_keys() -> None:
    images = EvaluationImages(GeneratedImages(3, (32, 48)), Fit((32, 32)))
    assert torch.equal(images[1].image, images[1].image)
    assert images[1].key == images[1].key != images[2].key
    assert images[1].placement.offset == (0.0, 0.0)


@pytest.mark.parametrize("length", [5, 6, 1])
def test_processes_go_through_equally_many_pictures_and_all_of_them(length: int) -> None:
    shares = [shared_out(length, (which, 2)) for which in range(2)]
    assert len(shares[0]) == len(shares[1]) == (length + 1) // 2
    assert set(shares[0]) | set(shares[1]) == set(range(length))
    assert list(shared_out(length, (0, 1))) == list(range(length))


def test_a_draw_knows_its_place_in_the_run() -> None:
    order = Order(7, 3)
    assert [order.position(order.draw(place)) for place in range(30)] == list(range(30))
    assert order.position(order.draw(2)) == 2  # an earlier epoch after a later one
