"""Training on the device gives plain PyTorch's weights and statistics.

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict

import pytest
import torch

import poptorch_host as poptorch
from poptorch_host import optim
from tests.poptorch_host.training.network import Network, assert_close, batch, plain_training
from tests.poptorch_host.training.product import options, rate_one

pytestmark = pytest.mark.usefixtures("one_thread")


def test_accumulated_steps_equal_plain_torch() -> None:
    # 2.7: BatchNorm sees micro-batches, its statistics are updated GA * DI times
    model, reference = Network(), Network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, options(accumulation=4, iterations=2), optimizer)
    data = batch(24)
    executor(*data)
    plain_training(reference, data, steps=2, micro_batches=4, lr=0.1)
    assert_close(model, reference)
    assert model.norm.num_batches_tracked is not None
    assert model.norm.num_batches_tracked.item() == 0  # trap 8: a constant on the device


def test_replicas_have_statistics_of_their_own() -> None:
    # 2.7, 2.14: the host reads those of the first replica, which ran blocks 0, 2, 4 and 6
    model, reference, first = Network(), Network(), Network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = batch(24)
    poptorch.trainingModel(model, options(4, 2), optimizer)(*data)
    plain_training(reference, data, steps=1, micro_batches=8, lr=0.1)
    assert_close(model, reference, "weight")
    for block in torch.chunk(data[0], 8)[::2]:
        first.norm(first.conv(block))
    assert_close(model, first, "running")


def test_evaluation_mode_uses_the_running_statistics() -> None:
    # 2.6: the wrapper does not switch modes; the one at compile stays
    model = Network().eval()
    executor = poptorch.trainingModel(model, optimizer=rate_one(model))
    executor.compile(*batch(2))
    model.train()
    executor(*batch(2))
    assert torch.equal(model.norm.state_dict()["running_mean"], torch.zeros(4))
    assert not torch.equal(model.norm.weight, torch.ones(4))


def test_frozen_weights_stay_and_the_rest_learns() -> None:
    model, reference = Network(), Network()
    for network in (model, reference):
        network.conv.requires_grad_(False)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = batch(4)
    poptorch.trainingModel(model, options(2), optimizer)(*data)
    plain_training(reference, data, steps=1, micro_batches=2, lr=0.1)
    assert_close(model, reference)
    assert torch.equal(model.conv.weight, Network().conv.weight)


def test_a_half_network_learns_what_a_float_one_does() -> None:
    model, reference = Network(torch.float16), Network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, loss_scaling=128.0)
    images, labels = batch(8)
    poptorch.trainingModel(model, options(2), optimizer)(images.half(), labels)
    plain_training(reference, [images, labels], steps=1, micro_batches=2, lr=0.1)
    for name, tensor in model.state_dict().items():
        expected = reference.state_dict()[name]
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.float(), expected, rtol=0.02, atol=0.005)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_trains_as_a_cpu_does(configure: Callable[..., object]) -> None:
    data = batch(8)
    trained = []
    for device in ("cpu", "cuda"):
        configure(device=device)
        model = Network()
        optimizer = optim.AdamW(model.parameters(), lr=0.01, max_grad_norm=1.0)
        executor = poptorch.trainingModel(model, options(2, 2), optimizer)
        for _ in range(2):
            executor(*data)
        trained.append(model)
        assert {t.device.type for t in optimizer.state_dict()["ipu_state"].values()} == {"cpu"}
    for one, other in zip(*[model.parameters() for model in trained]):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-3, atol=1e-4)


def test_weights_agree_after_many_calls() -> None:
    model, reference = Network(), Network()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    executor = poptorch.trainingModel(model, options(2), optimizer)
    data = batch(4)
    repeated: Dict[str, Any] = {"steps": 5, "micro_batches": 2, "lr": 0.05}
    for _ in range(5):
        executor(*data)
    plain_training(reference, [torch.cat([tensor] * 5) for tensor in data], **repeated)
    assert_close(model, reference)
    assert copy.deepcopy(model).training
