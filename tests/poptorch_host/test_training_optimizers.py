"""Every optimizer on the device updates as plain PyTorch does, and says what it cannot take (2.8).

GA gradient accumulation, R replicas, DI device iterations. Section numbers are those of the
PopTorch behaviour that is followed.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import Any, Callable, Dict, List, Tuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import optim
from poptorch_host.optim.converted import convert

pytestmark = pytest.mark.usefixtures("one_thread")

GA, R, MICRO = 16, 2, 2
Make = Callable[[Any], Any]


class Network(nn.Module):
    """Two layers, normalised over the sample; the loss is the mean over the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(5, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = F.cross_entropy(self.head(F.relu(self.norm(self.body(x)))), y)
        return loss


def options(accumulation: int = GA, replicas: int = R, iterations: int = 1) -> poptorch.Options:
    made = poptorch.Options().replicationFactor(replicas).deviceIterations(iterations)
    made.Training.gradientAccumulation(accumulation)
    return made


def batch(blocks: int) -> List[Tensor]:
    torch.manual_seed(1)
    size = blocks * MICRO
    return [torch.randn(size, 5), torch.randint(0, 3, (size,))]


def plain_step(model: nn.Module, optimizer: Any, data: List[Tensor], blocks: int = GA * R) -> None:
    """One PyTorch step on the mean of the micro-batch losses."""
    optimizer.zero_grad()
    losses = [model(*part) for part in zip(*[torch.split(tensor, MICRO) for tensor in data])]
    assert len(losses) == blocks
    torch.autograd.backward(torch.stack(losses).mean())
    optimizer.step()


def assert_same_weights(got: nn.Module, expected: nn.Module, atol: float = 1e-6) -> None:
    for (name, tensor), other in zip(got.state_dict().items(), expected.state_dict().values()):
        difference = (tensor - other).abs().max().item()
        assert difference <= atol, f"{name} differs by {difference}"


# our optimizer, plain torch's (LAMB: our host `step`, whose values other tests do by hand)
PAIRS: Dict[str, Any] = {
    "sgd stateless": (lambda p: optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd momentum": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    ),
    "sgd nesterov": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "sgd combined": (
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, use_combined_accum=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    ),
    "sgd combined nesterov": (
        lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True, use_combined_accum=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "adam": (
        lambda p: optim.Adam(p, 0.01, weight_decay=0.1, loss_scaling=128.0),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    ),
    "adamw": (
        lambda p: optim.AdamW(p, 0.01, betas=(0.8, 0.99), eps=1e-6, loss_scaling=64.0),
        lambda p: torch.optim.AdamW(p, 0.01, betas=(0.8, 0.99), eps=1e-6),
    ),
    "rmsprop": (
        lambda p: optim.RMSprop(p, 0.01, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, 0.01, weight_decay=0.1),
    ),
    "rmsprop centered": (
        lambda p: optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
        lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    ),
    "lamb": (lambda p: optim.LAMB(p, 0.01), lambda p: optim.LAMB(p, 0.01)),
    "torch sgd": (
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    ),
    "torch adam": (lambda p: torch.optim.Adam(p, 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "torch adamw": (
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
    ),
    "torch rmsprop": (
        lambda p: torch.optim.RMSprop(p, 0.01),
        lambda p: torch.optim.RMSprop(p, 0.01),
    ),
    "default": (lambda p: None, lambda p: torch.optim.SGD(p, lr=0.01)),  # 1.1
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_call_is_one_torch_step_on_the_mean_of_the_losses(name: str) -> None:
    # 2.1, 2.8: accumulation 16 and 2 replicas; two calls, so that state counts.
    ours, theirs = PAIRS[name]
    model, reference = Network(), Network()
    executor = poptorch.trainingModel(model, options(), ours(model.parameters()))
    plain = theirs(reference.parameters())
    data = batch(GA * R)
    for _ in range(2):
        executor(*data)
        plain_step(reference, plain, data)
    # RMSprop's first step divides rounding by gradients near zero.
    assert_same_weights(model, reference, atol=2e-5 if "rmsprop" in name else 1e-6)


def one_weight(value: float = 1.0) -> nn.Module:
    """The loss is the mean of weight * x, so the gradient is the mean of x."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([value]))

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(self.weight * x, "mean")

    return Product()


def weights_after(make: Make, gradients: List[float], **setting: Any) -> List[float]:
    """A weight that starts at 1, after each of several calls with these gradients."""
    model: Any = one_weight()
    executor = poptorch.trainingModel(model, optimizer=make(model.parameters()), **setting)
    found = []
    for gradient in gradients:
        executor(torch.tensor([gradient]))
        found.append(model.weight.item())
    return found


def test_dampening_scales_the_first_gradient_too() -> None:
    # 2.8: v = 0.5 * 1 = 0.5, then 0.9 * 0.5 + 0.5 * 1 = 0.95; torch starts with v = 1.
    ours = weights_after(lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5), [1.0, 1.0])
    assert ours == pytest.approx([1 - 0.05, 1 - 0.05 - 0.095])
    combined = weights_after(
        lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5, use_combined_accum=True),
        [1.0, 1.0],
    )
    assert combined == pytest.approx(ours)


def test_combined_accumulation_takes_a_new_momentum_one_step_later() -> None:
    # 2.8: after a first step v = 1; momentum 0.9 -> 0.5 decays it to 0.5 or, combined, to 0.9.
    def run(combined: bool) -> List[float]:
        model: Any = one_weight()

        def make(momentum: float) -> optim.SGD:
            return optim.SGD(model.parameters(), 0.1, momentum, use_combined_accum=combined)

        executor = poptorch.trainingModel(model, optimizer=make(0.9))
        found = []
        for momentum in (0.9, 0.5, 0.5):
            executor.setOptimizer(make(momentum))
            executor(torch.ones(1))
            found.append(model.weight.item())
        return found

    assert run(False) == pytest.approx([0.9, 0.9 - 0.15, 0.9 - 0.15 - 0.175])
    assert run(True) == pytest.approx([0.9, 0.9 - 0.19, 0.9 - 0.19 - 0.195])


def test_clipping_bounds_the_norm_over_all_weights() -> None:
    # 2.8: gradients 3 and 4 have norm 5; max 1 leaves 0.6 and 0.8. Loss scaling changes nothing.
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros(1))
            self.b = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return poptorch.identity_loss(3 * self.a * x + 4 * self.b * x, "sum")

    model = Two()
    clipped = optim.SGD(model.parameters(), lr=1.0, max_grad_norm=1.0, loss_scaling=32.0)
    executor = poptorch.trainingModel(model, optimizer=clipped)
    executor(torch.ones(1))
    assert [model.a.item(), model.b.item()] == pytest.approx([-0.6, -0.8])
    executor(torch.full((1,), 0.1))  # norm 0.5: not clipped
    assert [model.a.item(), model.b.item()] == pytest.approx([-0.9, -1.2])


def test_bias_correction_is_honoured() -> None:
    # Without it the first step of Adam is lr * 0.1 g / sqrt(0.001 g**2) = lr * 3.162 sign(g).
    def make(p: Any) -> optim.AdamW:
        return optim.AdamW(p, 0.01, weight_decay=0.0, eps=1e-12, bias_correction=False)

    assert weights_after(make, [4.0]) == pytest.approx([1 - 0.01 * 0.1 / 0.001**0.5])


def test_bias_correction_is_not_read_by_a_strict_runtime(
    configure: Callable[..., object],
) -> None:
    # 2.8: in the releases up to 3.4 the flag has no effect; the first step is lr * sign(g) then
    configure(strict=True)

    def make(p: Any) -> optim.AdamW:
        return optim.AdamW(p, 0.01, weight_decay=0.0, eps=1e-12, bias_correction=False)

    assert weights_after(make, [4.0]) == pytest.approx([1 - 0.01])


def test_rmsprop_as_tensorflow_by_hand() -> None:
    # s = 0.5 * 1 + 0.5 * 4 = 2.5; buffer = 0.1 * 2 / sqrt(2.5 + 1.5) = 0.1; then s = 3.25 and
    # the buffer 0.5 * 0.1 + 0.2 / sqrt(4.75): lr is inside it, eps inside the root.
    def make(p: Any) -> optim.RMSprop:
        return optim.RMSprop(p, 0.1, alpha=0.5, eps=1.5, momentum=0.5, use_tf_variant=True)

    second = 0.5 * 0.1 + 0.1 * 2 / 4.75**0.5
    assert weights_after(make, [2.0, 2.0]) == pytest.approx([0.9, 0.9 - second])


def test_half_state_is_kept_in_half() -> None:
    # 2.8: 1/3 rounds to 0.33325 in half; accum_type half keeps the gradient itself so, too.
    third = 1 / 3
    rounded = torch.tensor(third).half().item()
    velocity = weights_after(
        lambda p: optim.SGD(p, 1.0, momentum=0.5, velocity_accum_type=torch.float16), [third, 0.0]
    )
    assert velocity == pytest.approx([1 - third, 1 - third - rounded / 2], abs=1e-6)
    gradient = weights_after(lambda p: optim.SGD(p, 1.0, accum_type=torch.float16), [third])
    assert gradient == pytest.approx([1 - rounded], abs=1e-7)
    half: Any = {"accum_type": torch.float16, "velocity_accum_type": torch.float16}
    combined = weights_after(
        lambda p: optim.SGD(p, 1.0, momentum=0.5, use_combined_accum=True, **half), [third, 0.0]
    )
    assert combined == pytest.approx([1 - third, 1 - third * 1.5], abs=1e-7)  # types not read


def test_half_second_moments_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    # 2.8
    model = one_weight()
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        poptorch.trainingModel(
            model,
            optimizer=optim.Adam(
                model.parameters(), second_order_momentum_accum_type=torch.float16
            ),
        )
    assert "second_order_momentum_accum_type=torch.float16 is risky" in caplog.text


# ---- 2.8: reductions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("Post", 2.5), ("Running", 2.5), ("Sum", 10.0)],  # of gradients 1, 2, 3, 4
)
def test_gradients_of_accumulation_and_replicas_are_reduced(strategy: str, expected: float) -> None:
    model: Any = one_weight(0.0)
    chosen = options(accumulation=2, replicas=2)
    if strategy == "Sum":
        chosen.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Sum)
    else:
        chosen.Training.setMeanAccumulationAndReplicationReductionStrategy(
            getattr(poptorch.MeanReductionStrategy, strategy)
        )
    optimizer = optim.SGD(model.parameters(), lr=1.0, loss_scaling=4.0)
    poptorch.trainingModel(model, chosen, optimizer)(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert model.weight.item() == pytest.approx(-expected)


def test_a_running_mean_fits_where_a_sum_overflows_half() -> None:
    # 4 * 40000 is infinite in half, their running mean is not: half accumulators force it (1.4).
    model: Any = one_weight(0.0)
    optimizer = optim.SGD(model.parameters(), lr=1.0, accum_type=torch.float16)
    executor = poptorch.trainingModel(model, options(4, 1), optimizer)
    executor(torch.full((4,), 40000.0))
    assert model.weight.item() == -40000.0


# ---- 2.8: groups, constants and variables ------------------------------------------------------


def test_groups_have_rates_and_decays_of_their_own() -> None:
    model, reference = Network(), Network()

    def groups(network: Network) -> List[Dict[str, Any]]:
        return [
            {"params": network.body.parameters(), "lr": 0.3, "weight_decay": 0.5},
            {"params": network.head.parameters(), "momentum": 0.0},
        ]  # the normalisation is in no group: not updated

    ours = optim.SGD(groups(model), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(groups(reference), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, options(1, 1), ours)
    data = batch(1)
    for _ in range(2):
        executor(*data)
        plain_step(reference, theirs, data, blocks=1)
    assert_same_weights(model, reference)
    assert torch.equal(model.norm.weight, torch.ones(4))


def test_a_schedule_is_seen_by_set_optimizer_only() -> None:
    # 2.8, trap 4
    model: Any = one_weight()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor(torch.ones(1))
    optimizer.step()
    schedule.step()
    assert model.weight.item() == pytest.approx(0.5)
    executor(torch.ones(1))
    assert model.weight.item() == pytest.approx(0.0)
    executor.setOptimizer(optimizer)
    executor(torch.ones(1))
    assert model.weight.item() == pytest.approx(-0.05)


def replace(old: Make, new: Make, compiled: bool = True) -> None:
    model = one_weight()
    executor = poptorch.trainingModel(model, optimizer=old(model.parameters()))
    if compiled:
        executor.compile(torch.ones(1))
    executor.setOptimizer(new(model.parameters()))


SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            lambda p: SGD(p, 0.1),
            lambda p: ADAM(p, 0.1),
            "Can not replace optimizer of type SGD with new optimizer of type Adam",
        ),
        (
            lambda p: ADAM(p, 0.1),
            lambda p: ADAMW(p, 0.1),
            "Can not replace optimizer of type Adam with new optimizer of type AdamW",
        ),
        # torch: 0 is momentum's reference value and constant, 0.9 is variable
        (
            lambda p: SGD(p, 0.1),
            lambda p: SGD(p, 0.1, momentum=0.9),
            "Can not replace a constant value with a non constant value.*momentum of group 0",
        ),
        # poptorch: constant because it was not passed
        (
            lambda p: optim.SGD(p, 0.1),
            lambda p: optim.SGD([{"params": p, "weight_decay": 0.5}], 0.1),
            "Values are constant but do not match.*weight_decay of group 0",
        ),
        # torch: alpha is always constant
        (
            lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.9),
            lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.8),
            "Values are constant but do not match.*alpha",
        ),
        (
            lambda p: optim.SGD(p, 0.1),
            lambda p: optim.SGD(p, 0.1, loss_scaling=2.0),
            "Can not replace a constant value with a non constant value.*loss_scaling",
        ),
        (
            lambda p: optim.SGD(p, 0.1, max_grad_norm=1.0),
            lambda p: optim.SGD(p, 0.1, max_grad_norm=2.0),
            "Clip norm settings do not match",
        ),
        (
            lambda p: optim.SGD(p, 0.1, use_combined_accum=True),
            lambda p: optim.SGD(p, 0.1),
            "use_combined_accum cannot change after compile",
        ),
    ],
)
def test_constants_cannot_be_replaced_after_compile(old: Make, new: Make, words: str) -> None:
    with pytest.raises(poptorch.Error, match=words):
        replace(old, new)
    replace(old, new, compiled=False)


def test_variables_can_be_replaced_after_compile() -> None:
    replace(lambda p: SGD(p, 0.1, momentum=0.8), lambda p: SGD(p, 0.2, momentum=0.0))
    replace(lambda p: ADAM(p, 0.1, eps=1e-5), lambda p: ADAM(p, torch.tensor(0.2), eps=1e-4))
    replace(lambda p: optim.AdamW(p, eps=1e-8), lambda p: optim.AdamW(p, eps=1e-4))

    def marked(p: Any) -> optim.SGD:
        made = optim.SGD(p, 0.1)
        made.variable_attrs.markAsVariable("momentum")
        return made

    replace(marked, lambda p: optim.SGD(p, 0.1, momentum=0.5))


def test_a_loss_scaling_that_was_passed_can_be_replaced() -> None:
    # The velocity's scaling follows it: it was once compared with the first one's.
    replace(
        lambda p: optim.SGD(p, 0.1, momentum=0.9, loss_scaling=2.0),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, loss_scaling=4.0),
    )


def test_half_accumulators_cannot_come_after_compile() -> None:
    with pytest.raises(ValueError, match=r"Invalid optimizer: .*executable is already compiled\."):
        replace(lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, accum_type=torch.half))


def test_other_optimizers_are_refused() -> None:
    model = one_weight()
    words = "Unsupported optimizer type. Types supported "
    with pytest.raises(AssertionError, match=words):
        poptorch.trainingModel(model, optimizer=torch.optim.Adagrad(model.parameters()))
    executor = poptorch.trainingModel(model)  # the failure left the model as it was
    with pytest.raises(AssertionError, match=words):
        executor.setOptimizer(torch.optim.Adadelta(model.parameters()))
    with pytest.raises(ValueError, match="Only non-amsgrad"):
        executor.setOptimizer(torch.optim.Adam(model.parameters(), amsgrad=True))
    with pytest.raises(ValueError, match="none of the parameters"):
        executor.setOptimizer(torch.optim.Adam(copy.deepcopy(model).parameters()))


def test_rmsprop_groups_agree_on_centered() -> None:
    model = Network()
    groups: List[Dict[str, Any]] = [
        {"params": model.body.parameters(), "centered": True},
        {"params": model.head.parameters()},
    ]
    with pytest.raises(AssertionError, match="centered"):
        poptorch.trainingModel(model, optimizer=torch.optim.RMSprop(groups))


@pytest.mark.parametrize("relaxed", [False, True])
def test_unexpected_attributes_are_named_once(
    caplog: pytest.LogCaptureFixture, relaxed: bool
) -> None:
    class Tuned(torch.optim.SGD):
        """Its own step is never run."""

    model = one_weight()
    groups = [{"params": list(model.parameters()), "warmth": 3}]
    optimizer: Any = Tuned(groups, lr=0.1, maximize=True)
    optimizer.colour = "red"
    chosen = poptorch.Options().relaxOptimizerAttributesChecks(relaxed)
    with caplog.at_level(logging.DEBUG, logger="poptorch::python"):
        executor = poptorch.trainingModel(model, chosen, optimizer)
        executor.setOptimizer(optimizer)
    expected = [
        "Tuned is treated as SGD: Python code of an optimizer is not run on the device, only its"
        " attributes are read",
        "Ignoring unexpected default group variable in Tuned optimizer: ['maximize']",
        "Ignoring unexpected group 0 attribute in Tuned optimizer: ['warmth', 'maximize']",
        "Ignoring unexpected optimizer attribute in Tuned optimizer: ['colour']",
    ]
    assert [record.getMessage() for record in caplog.records] == expected
    level = logging.DEBUG if relaxed else logging.WARNING
    assert {record.levelno for record in caplog.records} == {level}


# ---- 2.8: state --------------------------------------------------------------------------------


def test_state_dict_holds_the_device_s_state() -> None:
    model: Any = one_weight()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    assert optimizer.state_dict() is None
    executor(torch.full((1,), 2.0))
    assert optimizer.ipu_state_is_dirty
    state = optimizer.state_dict()
    assert set(state) == {"ipu_state", "ipu_param", "state", "param_groups"}
    assert state["state"] == {}
    first, second, step = (f"{kind}___weight" for kind in ("Accl1", "Accl2", "Step"))
    assert state["ipu_state"][first].item() == pytest.approx(0.1 * 2)
    assert state["ipu_state"][second].item() == pytest.approx(0.001 * 4)
    assert state["ipu_state"][step].item() == 1
    assert state["ipu_param"]["learningRate___specific___weight"].item() == pytest.approx(0.1)
    assert not optimizer.ipu_state_is_dirty


def test_plain_descent_names_its_parameters_as_popart() -> None:
    model = one_weight()
    optimizer = optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
    poptorch.trainingModel(model, optimizer=optimizer).compile(torch.ones(1))
    parameters = optimizer.state_dict()["ipu_param"]
    assert parameters["weightDecayScaleFactor0___specific___weight"].item() == pytest.approx(0.95)
    assert parameters["scaledLearningRate0___specific___weight"].item() == 0.5
    assert parameters["lossScaling_FLOAT"].item() == 1.0


@pytest.mark.parametrize("compiled", [False, True])
def test_training_goes_on_from_a_state_dict(compiled: bool) -> None:
    def start(model: nn.Module, lr: float = 0.01) -> Any:
        optimizer = optim.AdamW(model.parameters(), lr=lr)
        return optimizer, poptorch.trainingModel(model, options(2, 1), optimizer)

    data = batch(2)
    model = Network()
    optimizer, executor = start(model)
    executor(*data)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    executor(*data)

    resumed = Network()
    again, other = start(resumed, lr=0.5)
    if compiled:
        other(*data)
    other.load_state_dict(weights)
    again.load_state_dict(state)  # the learning rate comes with it
    other(*data)
    for name, tensor in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_state_of_other_weights_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = one_weight()
    optimizer = optim.Adam(model.parameters())
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor(torch.ones(1))
    optimizer.load_state_dict({"ipu_state": {"Accl1___other": torch.ones(1)}, "ipu_param": {}})
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        executor(torch.ones(1))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "of no weight of this model is ignored: ['Accl1___other']" in text
    assert "lacks these weights: ['weight']" in text


def test_a_copied_optimizer_keeps_its_attributes() -> None:
    original = optim.SGD([nn.Parameter(torch.ones(1))], 0.1, loss_scaling=8.0)
    copied = copy.deepcopy(original)
    assert copied.loss_scaling == 8.0
    assert not copied.variable_attrs.isConstant("loss_scaling")
    assert copied.state_dict() is None


def test_velocity_scaling_is_for_combined_accumulation(caplog: pytest.LogCaptureFixture) -> None:
    # 2.8, mode 2
    model = one_weight()
    optimizer = optim.SGD(model.parameters(), 0.1, loss_scaling=2.0, velocity_scaling=4.0)
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        poptorch.trainingModel(model, optimizer=optimizer)
    assert "velocity_scaling" in caplog.text


# ---- 2.8: constants and variables of every optimizer -------------------------------------------

# optimizer, then the attributes of its group and whether they are constant
CONSTANTS: List[Tuple[Make, Dict[str, bool]]] = [
    (
        lambda p: SGD(p, 0.0),
        {"lr": False, "momentum": True, "dampening": True, "weight_decay": True, "nesterov": True},
    ),
    (
        lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        {"lr": False, "momentum": False, "dampening": True, "weight_decay": False},
    ),
    (lambda p: ADAM(p, 1e-3), {"lr": False, "betas": True, "eps": True, "weight_decay": True}),
    (
        lambda p: ADAM(p, 1e-3, betas=(0.8, 0.999), eps=1e-7, weight_decay=1e-2),
        {"betas": False, "eps": False, "weight_decay": False},
    ),
    (lambda p: ADAMW(p, 1e-3), {"lr": False, "betas": True, "eps": True, "weight_decay": True}),
    (lambda p: ADAMW(p, 1e-3, weight_decay=0.0), {"weight_decay": False}),
    (
        lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.5, eps=1e-7, momentum=0.1),
        {"lr": False, "alpha": True, "eps": False, "momentum": False, "weight_decay": True},
    ),
    # poptorch: what was passed is variable, whatever its value
    (lambda p: optim.SGD(p, 0.1), {"lr": False, "momentum": True, "weight_decay": True}),
    (lambda p: optim.SGD(p, 0.1, momentum=0.0), {"lr": False, "momentum": False}),
    (lambda p: optim.Adam(p), {"lr": True, "betas": True, "eps": True, "weight_decay": True}),
    (lambda p: optim.AdamW(p, eps=1e-8, betas=(0.9, 0.999)), {"betas": False, "eps": False}),
    (lambda p: optim.RMSprop(p, alpha=0.99), {"lr": True, "alpha": False, "eps": True}),
    (
        lambda p: optim.LAMB(p, max_weight_norm=65500.0),
        {"lr": True, "max_weight_norm": False, "weight_decay": True},
    ),
]


@pytest.mark.parametrize(("make", "expected"), CONSTANTS)
def test_which_attributes_are_compiled_in(make: Make, expected: Dict[str, bool]) -> None:
    model = one_weight()
    names = {id(weight): name for name, weight in model.named_parameters()}
    (group,) = convert(make(model.parameters()), names, lambda kind, text: None).groups
    assert {name: group[name].constant for name in expected} == expected


def test_marks_override_what_was_passed() -> None:
    model = one_weight()
    optimizer = optim.SGD(model.parameters(), lr=0.1, loss_scaling=2.0)
    optimizer.variable_attrs.markAsConstant("loss_scaling")
    optimizer.variable_attrs.markAsConstant("lr")
    executor = poptorch.trainingModel(model, optimizer=optimizer)
    executor.compile(torch.ones(1))
    optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(poptorch.Error, match=r"Values are constant but do not match\. lr"):
        executor.setOptimizer(optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.loss_scaling = 4.0
    with pytest.raises(poptorch.Error, match=r"Values are constant .*loss_scaling"):
        executor.setOptimizer(optimizer)


def test_the_number_of_groups_is_fixed() -> None:
    model = Network()
    optimizer = torch.optim.SGD(model.body.parameters(), 0.1)
    executor = poptorch.trainingModel(model, options(1, 1), optimizer)
    optimizer.add_param_group({"params": list(model.norm.parameters())})
    executor.setOptimizer(optimizer)  # not compiled yet
    executor.compile(*batch(1))
    optimizer.add_param_group({"params": list(model.head.parameters())})
    with pytest.raises(poptorch.Error, match=r"it had 2 groups of weights .*now it has 3"):
        executor.setOptimizer(optimizer)


def test_every_group_s_schedule_is_taken() -> None:
    # 1.10: rates and momenta of three groups change per batch
    model, reference = Network(), Network()

    def groups(network: Network) -> List[Dict[str, Any]]:
        parts = (network.body, network.norm, network.head)
        return [{"params": list(part.parameters())} for part in parts]

    ours: Any = optim.SGD(groups(model), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(groups(reference), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, options(1, 1), ours)
    data = batch(1)
    for step in range(3):
        for optimizer in (ours, theirs):
            for index, group in enumerate(optimizer.param_groups):
                group["lr"], group["momentum"] = 0.1 / (step + index + 1), 0.5 + 0.1 * step
        executor.setOptimizer(ours)
        executor(*data)
        plain_step(reference, theirs, data, blocks=1)
    assert_same_weights(model, reference)


def test_loss_scaling_saves_small_half_gradients() -> None:
    # 2.8: the gradient 2**-25 is zero in half, 2**-15 is not; the scale is divided out in float32
    def moved(scale: float) -> float:
        model: Any = one_weight(0.0).half()
        optimizer = optim.SGD(model.parameters(), lr=2.0**20, loss_scaling=scale)
        executor = poptorch.trainingModel(model, options(1, 1), optimizer)
        executor(torch.tensor([2.0**-24, 0.0]).half())
        return float(model.weight.float().item())

    assert moved(1.0) == 0.0
    assert moved(1024.0) == -(2.0**-5)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_every_optimizer_that_has_a_limit_clips(kind: str) -> None:
    # 2.8: gradients of 20 and 5 clipped to 2 do what gradients of 2 do
    def make(limit: float) -> Make:
        return lambda p: getattr(optim, kind)(p, lr=0.1, max_grad_norm=limit)

    clipped = weights_after(make(2.0), [20.0, 5.0])
    assert clipped == pytest.approx(weights_after(make(math.inf), [2.0, 2.0]))
    assert clipped != pytest.approx(weights_after(make(math.inf), [20.0, 5.0]), rel=1e-4)
