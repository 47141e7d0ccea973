"""A training call runs DI * GA * R micro-batches and DI updates, as PopTorch orders them.

DI device iterations, GA gradient accumulation, R replicas. Section numbers are those of the
PopTorch behaviour that is followed.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host, optim

pytestmark = pytest.mark.usefixtures("one_thread")


def options(accumulation: int = 1, replicas: int = 1, iterations: int = 1) -> poptorch.Options:
    made = poptorch.Options().replicationFactor(replicas).deviceIterations(iterations)
    made.Training.gradientAccumulation(accumulation)
    return made


class Product(nn.Module):
    """The loss is the mean of weight * x: its gradient is the mean of x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return poptorch.identity_loss(self.weight * x, "mean"), x


def rate_one(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1.0)


# ---- 2.1, 2.2: order and outputs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "period", "expected"),
    [
        # weights of the two steps: 1, then 1 - mean(1, 2, 3, 4) = -1.5
        ("All", None, [1.0, 2.0, 3.0, 4.0, -7.5, -9.0, -10.5, -12.0]),
        ("EveryN", 2, [3.0, 4.0, -10.5, -12.0]),
        ("Final", None, [-10.5, -12.0]),
        ("Sum", None, [1 + 3 - 7.5 - 10.5, 2 + 4 - 9.0 - 12.0]),
        (None, None, [-10.5, -12.0]),  # Final is training's default
    ],
)
def test_outputs_come_back_by_mode_and_every_step_updates(
    mode: Any, period: Any, expected: List[float]
) -> None:
    model = Product()
    chosen = options(accumulation=2, replicas=2, iterations=2)
    if mode is not None:
        chosen.outputMode(getattr(poptorch.OutputMode, mode), period)
    executor = poptorch.trainingModel(model, chosen, rate_one(model))
    loss, _ = executor(torch.arange(1.0, 9.0))
    assert loss.tolist() == pytest.approx(expected)
    # the second step's mean gradient is 6.5
    assert model.weight.item() == pytest.approx(-1.5 - 6.5)


def test_one_replica_returns_the_last_loss_as_a_scalar() -> None:
    # Trap 3
    model = Product()
    loss, _ = poptorch.trainingModel(model, options(4), rate_one(model))(torch.arange(1.0, 5.0))
    assert loss.shape == ()
    assert loss.item() == 4.0
    assert not loss.requires_grad
    with pytest.raises(poptorch.Error, match=r"backward\(\) cannot be called explicitly"):
        loss.backward()


def test_the_batch_counts_the_accumulation() -> None:
    model = Product()
    executor = poptorch.trainingModel(model, options(4, 2, 3), rate_one(model))
    words = r"Invalid batch dimension.*gradientAccumulation\(4\) = 24"
    with pytest.raises(AssertionError, match=words):
        executor(torch.ones(12))


def test_returned_weights_are_those_of_the_run() -> None:
    class Shows(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            return super().forward(x)[0], self.weight

    model = Shows()
    chosen = options(iterations=2).outputMode(poptorch.OutputMode.All)
    _, weights = poptorch.trainingModel(model, chosen, rate_one(model))(torch.ones(2))
    assert weights.tolist() == [1.0, 0.0]
    assert model.weight.item() == -1.0


# ---- equality with plain PyTorch on a convolutional network ------------------------------------


class Network(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.to(dtype)

    def forward(self, x: Tensor, y: Tensor) -> Tuple[Tensor, Tensor]:
        logits = self.head(F.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits, F.cross_entropy(logits.float(), y)


def batch(size: int) -> List[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(size, 2, 6, 6), torch.randint(0, 3, (size,))]


def plain_training(
    model: nn.Module, data: List[Tensor], steps: int, micro_batches: int, lr: float
) -> None:
    """Steps of SGD with momentum on the mean of micro-batch losses, in plain PyTorch."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr, 0.9)
    parts = list(zip(*[torch.chunk(tensor, steps * micro_batches) for tensor in data]))
    for step in range(steps):
        optimizer.zero_grad()
        mine = parts[step * micro_batches : (step + 1) * micro_batches]
        torch.autograd.backward(torch.stack([model(*part)[1] for part in mine]).mean())
        optimizer.step()


def assert_close(got: nn.Module, expected: nn.Module, names: str = "") -> None:
    others = expected.state_dict()
    for name, tensor in got.state_dict().items():
        if names in name and tensor.is_floating_point():
            torch.testing.assert_close(tensor, others[name], rtol=1e-5, atol=1e-6)


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


def test_tied_weights_are_updated_once() -> None:
    # 2.5: y = w * (w * x), so the gradient is 2 w x = 2
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(1, 1, bias=False)
            self.second = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.first.weight)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.second(self.first(x)), "sum")

    model = Tied()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1, 1))
    assert model.first.weight.item() == -1.0
    assert model.second.weight is model.first.weight


def test_half_weights_accumulate_in_float() -> None:
    # 2.9: 2048 + 1 is 2048 in half; the accumulator holds 2049, whose mean rounds to 1024 + ...
    model = Product().half()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    chosen = options(2)
    chosen.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
    poptorch.trainingModel(model, chosen, optimizer)(torch.tensor([2048.0, 1.0]).half())
    assert model.weight.dtype == torch.float16
    assert model.weight.item() == 1 - 2049.0  # -2048; without the 1 it would round to -2047


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


# ---- 2.7: buffers ------------------------------------------------------------------------------


class Averages(Product):
    """Keeps a moving average of its outputs, written in place from a tensor with a gradient."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        y = self.weight * x
        self.average.mul_(0.5).add_(y.mean())
        return poptorch.identity_loss(y, "mean"), x


def test_buffers_written_in_place_persist_without_gradient() -> None:
    model = Averages()
    executor = poptorch.trainingModel(model, options(2), rate_one(model))
    executor(torch.tensor([2.0, 4.0]))
    assert model.average.item() == 2.0 * 0.5 + 4.0
    assert model.weight.item() == 1.0 - 3.0


def test_buffers_written_in_place_need_leave_to_differ_between_replicas() -> None:
    model = Averages()
    executor = poptorch.trainingModel(model, options(1, 2), rate_one(model))
    words = r"PopTorch does not support broadcasting buffers\..*broadcastBuffers\(False\)"
    with pytest.raises(poptorch.Error, match=words):
        executor(torch.ones(2))
    executor.destroy()
    allowed = options(1, 2).broadcastBuffers(False)
    poptorch.trainingModel(model, allowed, rate_one(model))(torch.tensor([2.0, 4.0]))
    assert model.average.item() == 2.0  # the first replica's


# ---- 2.6: random numbers -----------------------------------------------------------------------


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.drop(self.layer(x)).square(), "mean")


def test_a_seed_makes_training_repeat() -> None:
    def run(seed: int) -> Tensor:
        model = Drops()
        chosen = options(2).randomSeed(seed)
        executor = poptorch.trainingModel(model, chosen, rate_one(model))
        torch.manual_seed(seed + 1)  # the program's own random numbers play no part
        for _ in range(2):
            executor(torch.ones(4, 8))
        return model.layer.weight.detach()

    assert torch.equal(run(7), run(7))
    assert not torch.equal(run(7), run(8))


# ---- 2.12: pipelines ---------------------------------------------------------------------------


def pipeline(stages: int) -> Any:
    layers = [poptorch.BeginBlock(nn.Linear(4, 4), ipu_id=index) for index in range(stages)]

    class Pipeline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.layers(x), "mean")

    return Pipeline()


def test_a_pipeline_needs_a_micro_batch_for_each_stage_there_and_back() -> None:
    model = pipeline(4)
    words = r"gradientAccumulation must be greater than or equal to the number of pipeline stages"
    with pytest.raises(poptorch.Error, match=words + r" \(7\)"):
        poptorch.trainingModel(model, options(6), rate_one(model))(torch.ones(6, 4))
    model.destroy()
    executor = poptorch.trainingModel(model, options(7), rate_one(model))
    executor(torch.ones(7, 4))
    assert len(host.report(executor).stages) == 4
    model.destroy()
    sharded = options(1).setExecutionStrategy(
        poptorch.ShardedExecution(poptorch.AutoStage.AutoIncrement)
    )
    poptorch.trainingModel(model, sharded, rate_one(model))(torch.ones(1, 4))


# ---- operators ---------------------------------------------------------------------------------


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = 10 * x * gradient
        return result  # told apart from plain autograd's 2 * x


def test_a_custom_operator_is_differentiated_as_its_function_is() -> None:
    apply: Callable[[Tensor], Tensor] = Square.apply
    host.register_custom_op("test.training", "Square", lambda inputs, _: [apply(inputs[0])])

    class Squares(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = self.weight * x
            (y,) = poptorch.custom_op([y], "Square", "test.training", 1, [y])
            return poptorch.identity_loss(y, "sum"), y

    model = Squares()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 1.0 - 10.0


def test_an_operator_computed_again_on_the_way_back_is_still_on_the_device() -> None:
    # Outside an executor a custom operator gives zeros, so its gradient would be lost.
    host.register_custom_op("test.training", "Cube", lambda inputs, _: [inputs[0] ** 3])

    class Recomputes(Product):
        def part(self, x: Tensor) -> Tensor:
            y = self.weight * x
            (y,) = poptorch.custom_op([y], "Cube", "test.training", 1, [y])
            return y * y

        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = torch.utils.checkpoint.checkpoint(self.part, x, use_reentrant=False)
            return poptorch.identity_loss(y, "sum"), y

    model = Recomputes()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 1.0 - 6.0


def test_checkpoints_and_hints_let_gradients_pass() -> None:
    class Hinted(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = poptorch.recomputationCheckpoint(poptorch.nop(self.weight * x))
            y = poptorch.set_available_memory(y, 0.3)
            return poptorch.identity_loss(y, "sum"), y

    model = Hinted()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 0.0


def test_gradients_of_tensors_can_be_printed(capfd: pytest.CaptureFixture[str]) -> None:
    class Prints(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            y = poptorch.ipu_print_tensor(self.weight * x, "y")
            return poptorch.identity_loss(3 * y, "sum"), y

    model = Prints()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["y: {(1.0000)}", "Gradient___y: {(3.0000)}"]


def test_no_grad_and_detach_are_honoured() -> None:
    class Partly(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            with torch.no_grad():
                constant = self.weight * 10
            y = self.weight * x + constant + self.weight.detach() * 100
            return poptorch.identity_loss(y, "sum"), y

    model = Partly()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert model.weight.item() == 0.0


def test_training_works_where_the_caller_has_gradients_off() -> None:
    for context in (torch.no_grad(), torch.inference_mode()):
        model = Product()
        with context:
            executor = poptorch.trainingModel(model, optimizer=rate_one(model))
            x = torch.ones(1)
            executor(x)
            executor(x)
        assert model.weight.item() == -1.0
        executor(torch.ones(1))
        assert model.weight.item() == -2.0


def test_the_program_sees_that_it_runs_on_the_device() -> None:
    seen = []

    class Asks(Product):
        def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
            seen.append((poptorch.isRunningOnIpu(), torch.is_grad_enabled()))
            return super().forward(x)

    model = Asks()
    poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))
    assert set(seen) == {(True, True)}


# ---- what is refused ---------------------------------------------------------------------------


def test_instances_need_a_launcher() -> None:  # 2.14
    chosen = poptorch.Options()
    chosen.Distributed.configureProcessId(0, 2)
    model = Product()
    executor = poptorch.trainingModel(model, chosen, rate_one(model))
    with pytest.raises(poptorch.Error, match=r"MASTER_PORT are not set: .*torchrun"):
        executor(torch.ones(1))


def test_the_compiling_engine_is_for_inference(configure: Callable[..., object]) -> None:
    configure(engine="compile")
    model = Product()
    with pytest.raises(poptorch.Error, match="needs engine='eager'"):
        poptorch.trainingModel(model, optimizer=rate_one(model))(torch.ones(1))


def test_synthetic_data_trains_nothing() -> None:
    model = Product()
    chosen = poptorch.Options().enableSyntheticData(True)
    loss, _ = poptorch.trainingModel(model, chosen, rate_one(model))(torch.ones(1))
    assert loss.item() == 0.0
    assert model.weight.item() == 1.0


# ---- 2.11: files -------------------------------------------------------------------------------


class Stored(nn.Module):
    """As `Product`, with nothing local, so that it can be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return poptorch.identity_loss(self.weight * x, "mean")


def test_a_saved_training_executable_goes_on(tmp_path: Path) -> None:
    def start() -> Tuple[Stored, Any]:
        model = Stored()
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, loss_scaling=2.0)
        return model, poptorch.trainingModel(model, options(2), optimizer)

    model, executor = start()
    data = torch.tensor([1.0, 3.0])
    executor(data)
    executor.save(tmp_path / "step")
    executor(data)
    loaded = poptorch.load(tmp_path / "step")
    assert type(loaded.model).__name__ == "PoptorchStored"
    loaded(data)
    assert (
        loaded.model.get_parameter("weight").item() == model.weight.item()
    )  # the momentum came along

    bare = tmp_path / "bare"
    start()[1].compileAndExport(bare, data, export_model=False)
    other, fresh = start()
    fresh.loadExecutable(bare)
    fresh(data)
    assert other.weight.item() == pytest.approx(1 - 0.1 * 2)
    with pytest.raises(poptorch.Error, match=r"Invalid file .*other options|for training"):
        poptorch.inferenceModel(Stored()).loadExecutable(bare)


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
