"""While a model is trained its weights are the device's, however they are read (1.7, 2.5).

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import optim

pytestmark = pytest.mark.usefixtures("one_thread")

X = torch.ones(1)


class Product(nn.Module):
    """The loss is weight * x, so a step at rate 1 takes x off the weight, which starts at 1."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        return poptorch.identity_loss(self.weight * x, "sum")


def train(model: nn.Module, options: Any = None) -> Any:
    return poptorch.trainingModel(model, options, torch.optim.SGD(model.parameters(), lr=1.0))


READS: Dict[str, Callable[[Any], float]] = {
    "item": lambda m: m.weight.item(),
    "data": lambda m: m.weight.data.item(),
    "detach": lambda m: m.weight.detach().item(),
    "parameters": lambda m: next(m.parameters()).tolist()[0],
    "named_parameters": lambda m: dict(m.named_parameters())["weight"].sum().item(),
    "state_dict": lambda m: m.state_dict()["weight"].item(),
    "arithmetic": lambda m: (m.weight * 1).item(),
    "function": lambda m: torch.cat([m.weight, m.weight])[1].item(),
    "index": lambda m: m.weight[0].item(),
    "float": lambda m: float(m.weight.detach()),
    "forward": lambda m: m(X).item(),
    "numpy": lambda m: m.weight.detach().numpy()[0],
    "deepcopy": lambda m: copy.deepcopy(m).weight.item(),
    "buffer": lambda m: 1 - m.steps.item(),
}


@pytest.mark.parametrize("name", READS)
def test_every_way_of_reading_a_weight_pulls_it(name: str) -> None:
    model = Product()
    executor = train(model)
    for expected in (0.0, -1.0):
        executor(X)
        assert READS[name](model) == expected


def test_weights_are_pulled_once_and_only_if_read() -> None:
    pulls: List[int] = []
    model = Product()
    executor = train(model)
    executor.compile(X)
    original = executor._engine.download

    def counted(weights: Any) -> None:
        pulls.append(1)
        original(weights)

    executor._engine.download = counted
    executor(X)
    executor.setOptimizer(torch.optim.SGD(model.parameters(), lr=1.0))
    executor(X)
    assert model.weight.shape == (1,)
    assert pulls == []
    for _ in range(3):
        model.state_dict()
    assert len(pulls) == 1
    assert executor.copyWeightsToHostIfNeeded() is False
    executor(X)
    assert executor.copyWeightsToHostIfNeeded() is True
    assert len(pulls) == 2


def test_the_class_is_a_subclass_of_the_user_s() -> None:
    # 1.7, trap 11
    model = Product()
    executor = train(model)
    assert type(model).__name__ == "PoptorchProduct"
    assert isinstance(model, Product)
    assert type(model.weight).__name__ == "PoptorchParameter"
    assert isinstance(model.weight, nn.Parameter)
    assert type(model.steps).__name__ == "PoptorchBuffer"
    assert isinstance(model.steps, torch.Tensor)
    assert repr(model.weight).startswith("Parameter containing")
    assert executor.model is model
    assert type(model.state_dict()["weight"]) is torch.Tensor


def test_copies_and_pickles_are_plain(tmp_path: Path) -> None:
    model = Product()
    train(model)(X)
    torch.save(model, tmp_path / "model.pt")
    restored = torch.load(tmp_path / "model.pt", weights_only=False)
    for plain in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), restored):
        assert type(plain) is Product
        assert type(plain.weight) is nn.Parameter
        assert type(plain.steps) is torch.Tensor
        assert plain.weight.item() == 0.0
    shared = copy.deepcopy([model.weight, model.weight])
    assert shared[0] is shared[1]


def test_a_model_is_wrapped_once() -> None:
    model = Product()
    train(model)
    words = (
        r"Model has already been wrapped in 'poptorch\.trainingModel'\. Call model\.destroy\(\) on"
        r" the model to unwrap before wrapping again\."
    )
    for again in (model, poptorch.inferenceModel(model), nn.Sequential(model)):
        with pytest.raises(RuntimeError, match=words):
            poptorch.trainingModel(again)
    model.destroy()  # type: ignore[operator]  # a method that wrapping adds
    assert type(model) is Product
    train(model)


@pytest.mark.parametrize("by_model", [False, True])
def test_destroy_brings_weights_home_and_restores_classes(by_model: bool) -> None:
    model: Any = Product()
    executor = train(model)
    executor(X)
    (model if by_model else executor).destroy()
    assert type(model) is Product
    assert type(model.weight) is nn.Parameter
    assert type(model.steps) is torch.Tensor
    assert vars(model.weight) == {}
    assert (model.weight.item(), model.steps.item()) == (0.0, 1.0)
    executor.destroy()
    assert not executor.isCompiled()
    executor(X)  # compiles and wraps again
    assert type(model).__name__ == "PoptorchProduct"
    assert model.weight.item() == -1.0


def test_optimizer_state_survives_destroy() -> None:
    def run(interrupted: bool) -> float:
        model = Product()
        optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
        executor = poptorch.trainingModel(model, optimizer=optimizer)
        executor(X)
        if interrupted:
            executor.destroy()
            assert optimizer.has_state()
            executor = poptorch.trainingModel(model, optimizer=optimizer)
        executor(X)
        return model.weight.item()

    assert run(True) == run(False) == -1.5


def test_tensor_classes_of_the_user_s_own_are_refused() -> None:
    class Mine(torch.Tensor):
        pass

    model = nn.Linear(1, 1)
    model.register_buffer("mine", torch.ones(1).as_subclass(Mine))
    words = "All buffers must be an instance of torch.Tensor"
    with pytest.raises(poptorch.Error, match=words):
        train(model)
    assert type(model) is nn.Linear


# ---- 2.5: writes ------------------------------------------------------------------------------


def test_writes_on_the_host_reach_the_device_by_request_only() -> None:
    model = Product()
    executor = train(model)
    executor(X)  # 0 on the device
    model.weight.data.fill_(10.0)
    executor(X)
    assert model.weight.item() == -1.0
    model.weight.data.fill_(10.0)
    executor.copyWeightsToDevice()
    executor(X)
    assert model.weight.item() == 9.0
    executor.load_state_dict({"weight": torch.full((1,), 5.0), "steps": torch.zeros(1)})
    executor(X)
    assert model.weight.item() == 4.0
    model.load_state_dict({"weight": torch.full((1,), 7.0), "steps": torch.zeros(1)})
    executor(X)
    assert model.weight.item() == 3.0


def test_the_user_may_train_on_the_host_meanwhile() -> None:
    model = Product()
    executor = train(model)
    executor(X)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    torch.autograd.backward(model(X))
    optimizer.step()
    assert model.weight.item() == 0.0 - 0.5
    executor.copyWeightsToDevice()
    executor(X)
    assert model.weight.item() == -1.5


# ---- 2.5: an inference executor of the same model ----------------------------------------------


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(3)
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, target: Any = None) -> Any:
        y = self.layer(self.norm(x))
        if target is None:
            return y
        return y, torch.nn.functional.mse_loss(y, target)


@pytest.mark.parametrize("order", ["training first", "inference first", "sub-module"])
def test_inference_follows_training(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Network()
    x, target = torch.randn(4, 3), torch.randn(4, 1)
    early = poptorch.inferenceModel(model) if order == "inference first" else None
    training = train(model)
    training.compile(x, target)  # in training mode, which stays
    model.eval()
    late = poptorch.inferenceModel(model.norm if order == "sub-module" else model)
    inference = early or late
    compare = model.norm if order == "sub-module" else model
    inference.compile(x)
    for _ in range(3):
        training(x, target)
        expected = compare(x)
        torch.testing.assert_close(inference(x), expected.detach())
    uploads: List[int] = []
    monkeypatch.setattr(inference, "_upload", lambda engine: uploads.append(1))
    inference(x)
    assert uploads == []


def test_an_inference_executor_made_from_a_training_one_has_its_model() -> None:
    model = Network()
    training = train(model)
    inference = poptorch.inferenceModel(training)
    assert inference.model is model
    assert type(inference._model) is Network


# ---- 2.10: the device --------------------------------------------------------------------------


def test_training_goes_on_after_the_device_was_lent() -> None:
    model = Product()
    optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor(X)
    executor.detachFromDevice()
    assert executor.copyWeightsToHostIfNeeded() is False  # detaching brought them
    with pytest.raises(poptorch.Error, match="Device is not attached"):
        executor.detachFromDevice()
    validation = poptorch.inferenceModel(model)
    assert validation(X).item() == 0.0
    validation.detachFromDevice()
    executor.attachToDevice()
    with pytest.raises(poptorch.Error, match="Device is already attached"):
        executor.attachToDevice()
    executor(X)
    assert model.weight.item() == -1.5  # with the momentum of the first step
    executor.detachFromDevice()
    executor(X)  # attaches by itself
    assert executor.isAttachedToDevice()
    assert model.weight.item() == -1.5 - 1.75


def test_an_offline_model_compiles_only() -> None:
    options = poptorch.Options().connectionType(poptorch.ConnectionType.Never)
    executor = train(Product(), options)
    executor.compile(X)
    assert not executor.isAttachedToDevice()
    with pytest.raises(AssertionError, match="offline device"):
        executor(X)


# ---- 2.7: buffers of a model that is trained ---------------------------------------------------


class Shifted(nn.Module):
    """As `Product`, with a buffer that is added and one that counts in integers."""

    shift: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int32))

    def forward(self, x: Tensor) -> Any:
        self.count += 1
        return poptorch.identity_loss(self.weight * x, "sum"), self.shift * x, self.count * 1


def test_named_buffers_are_updated_while_weights_stay_on_the_device() -> None:
    model = Shifted()
    options = poptorch.Options().updatableNamedBuffers(["shift"])
    executor = train(model, options)
    assert executor(X)[1].item() == 0.0
    model.shift.fill_(3.0)
    with torch.no_grad():
        model.weight.fill_(100.0)
    executor.copyNamedBuffersToDevice()
    assert executor(X)[1].item() == 3.0
    assert model.weight.item() == 1.0 - 1.0 - 1.0  # the device's
    other = train(Shifted(), poptorch.Options().updatableNamedBuffers(["nothing"]))
    other.compile(X)
    with pytest.raises(poptorch.Error, match=r"\['nothing'\] are not buffers of the model"):
        other.copyNamedBuffersToDevice()


def test_integer_buffers_are_constants_in_training() -> None:
    # 2.7: each micro-batch sees the value of compile
    model = Shifted()
    options = poptorch.Options().deviceIterations(2).outputMode(poptorch.OutputMode.All)
    executor = train(model, options)
    for _ in range(2):
        assert executor(torch.ones(2))[2].tolist() == [1, 1]
    assert model.count.item() == 0


def test_a_tensor_that_replaced_another_is_uploaded_and_read_from_then_on() -> None:
    # Bringing weights home once overwrote what the program had just assigned.
    model = Shifted()
    executor = train(model)
    executor(X)
    model.shift = torch.full((1,), 2.0)
    model.weight = nn.Parameter(torch.full((1,), 7.0))
    assert model.count.item() == 0  # a read, which brings other weights home
    assert (model.shift.item(), model.weight.item()) == (2.0, 7.0)
    assert executor(X)[1].item() == 0.0  # 2.5: by request only
    executor.copyWeightsToDevice()
    assert executor(X)[1].item() == 2.0
    assert model.weight.item() == 6.0
    executor.destroy()
    assert (type(model.shift), type(model.weight)) == (torch.Tensor, nn.Parameter)


# ---- 2.5: order of a call ----------------------------------------------------------------------


def test_inference_uploads_only_what_is_newer() -> None:
    model = Network()
    x, target = torch.randn(4, 3), torch.randn(4, 1)
    training = train(model)
    training(x, target)
    model.eval()
    inference = poptorch.inferenceModel(model)
    inference(x)
    with torch.no_grad():
        model.layer.weight.zero_()  # plain changes on the host are not detected
    before = inference(x)
    assert not torch.equal(before, model(x).detach())
    training.copyWeightsToDevice()  # tells who follows
    torch.testing.assert_close(inference(x), model(x).detach())


def test_two_inference_executors_follow_one_training() -> None:
    model = Network()
    x, target = torch.randn(4, 3), torch.randn(4, 1)
    training = train(model)
    training(x, target)
    model.eval()
    followers = [poptorch.inferenceModel(model) for _ in range(2)]
    for _ in range(2):
        training(x, target)
        for follower in followers:
            torch.testing.assert_close(follower(x), model(x).detach())


def test_loading_into_the_executor_keeps_the_optimizer_s_state() -> None:
    model = Product()
    optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor(X)  # velocity 1
    result = executor.load_state_dict({"weight": torch.full((1,), 5.0)}, strict=False)
    assert result.missing_keys == ["steps"]
    executor(X)
    assert model.weight.item() == 5.0 - 1.5


def test_training_may_be_wrapped_by_name_of_an_inference_executor() -> None:
    # 1.1: model may be an executor
    model = Product()
    inference = poptorch.inferenceModel(model)
    training = poptorch.trainingModel(inference, optimizer=optim.SGD(model.parameters(), lr=1.0))
    assert training.model is model
    training(X)
    assert model.weight.item() == 0.0


def test_a_destroyed_inference_executor_leaves_training_alone() -> None:
    model = Network()
    x, target = torch.randn(4, 3), torch.randn(4, 1)
    training = train(model)
    training(x, target)
    inference = poptorch.inferenceModel(training)
    inference(x)
    inference.destroy()
    assert training.isCompiled()
    assert type(model).__name__ == "PoptorchNetwork"
    training.destroy()
    assert type(model) is Network
    inference(x)  # and the other way round
    assert not training.isCompiled()


class WithLoss(nn.Module):
    """What training loops put around a model: a wrapper made anew for every executor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return poptorch.identity_loss(self.model(x), "sum")


def test_a_model_may_be_inside_several_that_are_trained() -> None:  # 1.7
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 5.0)
    x = torch.ones(1, 1)

    def train_it() -> poptorch.PoplarExecutor:
        wrapper = WithLoss(model)
        return poptorch.trainingModel(wrapper, optimizer=optim.SGD(wrapper.parameters(), lr=1.0))

    first = train_it()
    first(x)
    second = train_it()  # whose weights are those the first has trained
    second(x)
    assert model.weight.item() == 3.0
    second.destroy()
    first.copyWeightsToDevice()
    first(x)
    assert model.weight.item() == 2.0
    first.destroy()
    assert type(model.weight) is nn.Parameter
    assert vars(model.weight) == {}
