"""An executor returns what the module returns, from weights of its own, in PopTorch's order.

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

import datetime
import logging
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import poptorch_host as poptorch
from poptorch_host import capture, host

Wrap = Callable[..., poptorch.PoplarExecutor]


def options(**values: int) -> poptorch.Options:
    made = poptorch.Options()
    for name, value in values.items():
        getattr(made, name)(value)
    return made


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


# ---- 1.7: wrapping -----------------------------------------------------------------------------


def test_a_network_gives_the_results_of_plain_torch() -> None:
    model = small_network()
    x = torch.rand(4, 3, 32, 32)
    executor = poptorch.inferenceModel(model)
    result = executor(x)
    torch.testing.assert_close(result, model(x).detach())
    assert result.is_contiguous()
    assert not result.requires_grad
    assert not result.is_inference()


def test_the_wrapper_copies_shallowly() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = 2.0
            self.inner = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.inner(x) * self.factor
            return result

    model = Scaled().eval()
    executor = poptorch.inferenceModel(model)
    model.factor = 3.0  # an attribute of the original: not seen
    x = torch.ones(2)
    torch.testing.assert_close(executor(x), torch.full((2,), 2.0))
    assert executor.model is model
    assert type(model) is Scaled


def test_an_executor_may_be_wrapped_again() -> None:
    model = small_network()
    again = poptorch.inferenceModel(poptorch.inferenceModel(model))
    assert again.model is model


def test_other_attributes_and_state_dict_are_the_models() -> None:
    model = small_network()
    executor = poptorch.inferenceModel(model)
    assert executor.training is False
    assert list(executor.state_dict()) == list(model.state_dict())
    assert repr(executor) == repr(model)
    with pytest.raises(AttributeError, match="nothing_like_that"):
        executor.nothing_like_that  # noqa: B018


def test_wrong_options_are_refused() -> None:
    with pytest.raises(poptorch.Error, match=r"Expected poptorch.Options"):
        poptorch.inferenceModel(nn.ReLU(), {"deviceIterations": 2})  # type: ignore[arg-type]
    accumulating = poptorch.Options()
    accumulating.Training.gradientAccumulation(2)
    with pytest.raises(poptorch.Error, match="gradientAccumulation to 1"):
        poptorch.inferenceModel(nn.ReLU(), accumulating)


def test_a_parametrized_model_can_be_wrapped() -> None:
    class Positive(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight.abs()

    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, -1.0)
    parametrize.register_parametrization(model, "weight", Positive())
    assert poptorch.inferenceModel(model)(torch.ones(1, 2)).tolist() == [[2.0]]


def test_options_are_frozen_and_cloned() -> None:
    mine = poptorch.Options()
    executor = poptorch.inferenceModel(nn.ReLU(), mine)
    assert executor.options is not mine
    assert executor.options.output_mode is poptorch.OutputMode.All
    with pytest.raises(AttributeError, match="Can't modify frozen Options"):
        mine.deviceIterations(2)


def test_an_inference_executor_has_no_optimizer() -> None:
    with pytest.raises(poptorch.Error, match=r"setOptimizer: .*inferenceModel"):
        poptorch.inferenceModel(nn.ReLU()).setOptimizer(None)  # type: ignore[arg-type]


# ---- 2.2: dtypes and gradients -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.int64, torch.int32),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.bool, torch.bool),
        (torch.int16, torch.int16),
        (torch.uint8, torch.uint8),
    ],
)
def test_wide_dtypes_come_back_narrow(
    wrap: Wrap, given: torch.dtype, returned: torch.dtype
) -> None:
    result = wrap(lambda x: x.reshape(-1))(torch.ones(2, 2).to(given))
    assert result.dtype == returned
    assert result.float().tolist() == [1.0] * 4


def test_outputs_refuse_backward(wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error, match="backward\\(\\) cannot be called explicitly"):
        wrap(lambda x: x.sum())(torch.ones(2)).backward()


def test_returned_inputs_are_copies(wrap: Wrap) -> None:
    x = torch.zeros(2)
    result = wrap(lambda x: x)(x)
    result += 1
    assert x.tolist() == [0.0, 0.0]


def test_constants_of_the_host_are_returned_as_they_are(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    constant = torch.tensor([5.0])
    executor = wrap(lambda x: (x + 1, constant), options(deviceIterations=2))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result, same = executor(torch.zeros(2))
    assert result.tolist() == [1.0, 1.0]
    assert same.tolist() == [5.0]
    assert "Output expected to be on the IPU but is on cpu" in caplog.text


# ---- 2.3: structures ---------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Tensor
    second: Any


STRUCTURES: List[Callable[[Tensor], Any]] = [
    lambda x: (x, x + 1),
    lambda x: [x, [x + 1, (x + 2,)]],
    lambda x: {"a": x, "b": {"c": x + 1}},
    lambda x: OrderedDict(z=x, a=x + 1),
    lambda x: Pair(x, Pair(x + 1, "text")),
    lambda x: (x, None, 3, "text", 1.5),
    lambda x: defaultdict(list, a=x),
    lambda x: None,
]


@pytest.mark.parametrize("function", STRUCTURES)
def test_results_keep_their_structure(wrap: Wrap, function: Callable[[Tensor], Any]) -> None:
    x = torch.rand(2, 3)
    expected, result = function(x), wrap(function)(x)
    assert type(result) is type(expected)
    assert str(result) == str(expected)


@dataclass
class Hidden:
    value: Tensor


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: (x, [Hidden(x + 1)]), "Hidden"),
        (lambda x: {x + 1}, "set"),
        (lambda x: (row for row in x), "generator"),
    ],
)
def test_results_that_hide_tensors_are_refused(
    wrap: Wrap, function: Callable[[Tensor], Any], kind: str
) -> None:
    # 2.3: they would come back with the capture's tensors, which have no values
    executor = wrap(function)
    with pytest.raises(poptorch.Error, match=f"returned a {kind} .*registerCustomArgParser"):
        executor(torch.ones(2))
    assert not executor.isCompiled()


# ---- 2.4: arguments ----------------------------------------------------------------------------


class Takes(nn.Module):
    def forward(
        self,
        x: Tensor,
        pair: Tuple[Tensor, Tensor],
        scale: float = 1.0,
        *rest: Tensor,
        extra: Optional[Dict[str, Tensor]] = None,
    ) -> Tensor:
        total = x + pair[0] * pair[1] * scale + sum(rest)
        return total if extra is None else total + extra["a"]


def test_arguments_of_every_kind_reach_forward() -> None:
    x = torch.ones(4)
    arguments = (x, (x, 2 * x), 3.0, x, x)
    executor = poptorch.inferenceModel(Takes(), options(deviceIterations=2))
    result = executor(*arguments, extra={"a": x})
    assert result.tolist() == Takes()(*arguments, extra={"a": x}).tolist() == [10.0] * 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((torch.ones(4), (torch.ones(4), torch.ones(4)), 2.0), "Value mismatch for scale"),
        ((torch.ones(8), (torch.ones(8), torch.ones(8)), 1.0), "Shape mismatch for x"),
        ((torch.ones(4), (torch.ones(4),), 1.0), "Length mismatch for pair"),
        ((torch.ones(4), (torch.ones(4).int(), torch.ones(4)), 1.0), r"Data type mismatch for pa"),
        ((torch.ones(4), [torch.ones(4), torch.ones(4)], 1.0), "Type mismatch for pair"),
    ],
)
def test_later_calls_must_be_like_the_first(arguments: Tuple[Any, ...], text: str) -> None:
    executor = poptorch.inferenceModel(Takes())
    executor(torch.ones(4), (torch.ones(4), torch.ones(4)))
    with pytest.raises(poptorch.Error, match=text):
        executor(*arguments)


def test_keywords_and_dict_entries_may_come_in_another_order() -> None:
    class Named(nn.Module):
        def forward(self, table: Dict[str, Tensor], **more: Tensor) -> Tensor:
            return 1000 * table["a"] + 100 * table["b"] + 10 * more["c"] + more["d"]

    one, two, three, four = (torch.tensor([float(value)]) for value in (1, 2, 3, 4))
    executor = poptorch.inferenceModel(Named())
    assert executor({"a": one, "b": two}, c=three, d=four).tolist() == [1234.0]
    assert executor({"b": two, "a": one}, d=four, c=three).tolist() == [1234.0]


@pytest.mark.parametrize("change", ["unsqueeze_", "requires_grad_", "t_"])
def test_shape_and_flags_of_the_callers_tensor_stay(wrap: Wrap, change: str) -> None:
    # 2.4: values that forward writes go back, nothing else does
    def forward(x: Tensor) -> Tensor:
        x.mul_(2)
        arguments = [0] if change == "unsqueeze_" else []
        result: Tensor = getattr(x, change)(*arguments)
        return result + 1

    x = torch.tensor([[1.0, 2.0]])
    assert wrap(forward)(x).flatten().tolist() == [3.0, 5.0]
    assert x.tolist() == [[2.0, 4.0]]
    assert not x.requires_grad


def test_an_input_that_forward_changes_is_written_back(wrap: Wrap) -> None:
    def change(x: Tensor) -> Tensor:
        x.add_(1)
        return x * 2

    x = torch.zeros(4)
    result = wrap(change, options(deviceIterations=2))(x)
    assert x.tolist() == [1.0] * 4
    assert result.tolist() == [2.0] * 4


def test_a_strided_input_that_forward_changes_is_written_back(wrap: Wrap) -> None:
    storage = torch.zeros(2, 4)
    wrap(lambda x: x.add_(1).sum())(storage.t())
    assert storage.tolist() == [[1.0] * 4] * 2


# ---- 2.5: weights ------------------------------------------------------------------------------


def test_weights_of_the_host_reach_the_device_by_request_only() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    executor = poptorch.inferenceModel(model)
    x = torch.ones(1, 1)
    assert executor(x).item() == 2.0
    with torch.no_grad():
        model.weight.fill_(3.0)
    assert executor(x).item() == 2.0
    executor.copyWeightsToDevice()
    assert executor(x).item() == 3.0
    executor.load_state_dict({"weight": torch.full((1, 1), 4.0)})
    assert executor(x).item() == 4.0
    assert model.weight.item() == 4.0
    model.load_state_dict({"weight": torch.full((1, 1), 5.0)})
    assert executor(x).item() == 4.0
    executor.copyWeightsToHost()
    assert model.weight.item() == 4.0
    assert executor.copyWeightsToHostIfNeeded() is False


def test_weights_move_only_after_compile() -> None:
    executor = poptorch.inferenceModel(nn.Linear(1, 1))
    for call in (executor.copyWeightsToHost, executor.copyWeightsToDevice):
        with pytest.raises(poptorch.Error, match="Model has not been compiled or has been destr"):
            call()


def test_a_weight_used_twice_is_one_weight() -> None:
    linear = nn.Linear(1, 1, bias=False)
    executor = poptorch.inferenceModel(nn.Sequential(linear, linear))
    nn.init.constant_(linear.weight, 3.0)
    assert executor(torch.ones(1, 1)).item() == 9.0
    executor.load_state_dict({"0.weight": torch.full((1, 1), 2.0)}, strict=False)
    assert executor(torch.ones(1, 1)).item() == 4.0


def test_a_caller_in_inference_mode_changes_nothing() -> None:
    model = Counter()
    with torch.inference_mode():
        x = torch.zeros(1)
        executor = poptorch.inferenceModel(model)
        assert executor(x).item() == 1.0 + 1
    assert executor(torch.zeros(1)).item() == 2.0 + 1
    executor.copyWeightsToHost()
    executor.copyWeightsToDevice()
    assert executor(x).item() == 3.0 + 1


# ---- 2.6: modes and random numbers -------------------------------------------------------------


def test_the_mode_is_that_of_compile() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4)).eval()
    executor = poptorch.inferenceModel(model)
    x = torch.rand(8, 4)
    before = executor(x)
    model.train()
    torch.testing.assert_close(executor(x), before)
    executor.destroy()
    assert not torch.equal(executor(x), before)  # sub-modules are shared: compiled for training


def test_random_numbers_repeat_with_the_seed(wrap: Wrap) -> None:
    def draw(x: Tensor) -> Tensor:
        return x + torch.rand(3, device=x.device)

    first = wrap(draw, options(randomSeed=7))
    second = wrap(draw, options(randomSeed=7))
    x = torch.zeros(1, 3)
    values = [first(x) for _ in range(3)]
    assert [value.tolist() for value in values] == [second(x).tolist() for _ in range(3)]
    assert len({tuple(value.flatten().tolist()) for value in values}) == 3
    state = first.rng_state
    following = first(x)
    first.rng_state = state
    assert torch.equal(first(x), following)
    with pytest.raises(poptorch.Error, match="rng_state must be the list of two int"):
        first.rng_state = [1]


def test_random_numbers_of_the_host_are_left_alone(wrap: Wrap) -> None:
    executor = wrap(lambda x: x + torch.rand(2, device=x.device))
    executor(torch.zeros(2))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    executor(torch.zeros(2))
    assert torch.equal(torch.rand(2), expected)


# ---- 2.7: buffers ------------------------------------------------------------------------------


class Counter(nn.Module):
    total: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.total += 1.0
        self.steps += 1
        return x + self.total + self.steps


def test_float_buffers_persist_and_integer_buffers_are_constants() -> None:
    model = Counter()
    executor = poptorch.inferenceModel(model, options(deviceIterations=2))
    assert executor(torch.zeros(2)).tolist() == [2.0, 3.0]
    assert executor(torch.zeros(2)).tolist() == [4.0, 5.0]
    assert model.total.item() == 0.0
    executor.copyWeightsToHost()
    assert model.total.item() == 4.0
    assert model.steps.item() == 0


def test_named_buffers_are_updated_without_weights() -> None:
    class Shift(nn.Module):
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("shift", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + self.shift

    model = Shift()
    executor = poptorch.inferenceModel(model, options(updatableNamedBuffers=["shift"]))  # type: ignore[arg-type]
    assert executor(torch.ones(1)).item() == 1.0
    with torch.no_grad():
        model.weight.fill_(10.0)
        model.shift.fill_(2.0)
    executor.copyNamedBuffersToDevice()
    assert executor(torch.ones(1)).item() == 3.0
    other = poptorch.inferenceModel(model)
    other.compile(torch.ones(1))
    with pytest.raises(poptorch.Error, match="No named buffers marked as updatable"):
        other.copyNamedBuffersToDevice()


def test_replicas_have_buffers_of_their_own_when_allowed() -> None:
    replicated = options(replicationFactor=2)
    with pytest.raises(poptorch.Error, match="does not support broadcasting buffers"):
        poptorch.inferenceModel(Counter(), replicated)(torch.zeros(2))
    apart = options(replicationFactor=2, broadcastBuffers=False)
    executor = poptorch.inferenceModel(Counter(), apart)
    assert executor(torch.zeros(2)).tolist() == [2.0, 2.0]


def test_batch_norm_in_training_mode_updates_the_device_only() -> None:
    model: Any = nn.BatchNorm1d(1, momentum=0.5, affine=False).train()
    executor = poptorch.inferenceModel(model, options(replicationFactor=2))
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0]])  # replicas see means 2 and 6
    executor(x)
    assert model.running_mean.item() == 0.0
    executor.copyWeightsToHost()
    assert model.running_mean.item() == 1.0  # one replica's: 0.5 * 0 + 0.5 * 2
    assert model.num_batches_tracked.item() == 0


# ---- 2.10: device life cycle -------------------------------------------------------------------


def test_attaching_follows_the_connection_type() -> None:
    x = torch.ones(1)
    always = poptorch.inferenceModel(nn.ReLU())
    assert not always.isAttachedToDevice()
    assert not always.isCompiled()
    always.compile(x)
    assert always.isAttachedToDevice()
    assert always.isCompiled()

    later = options()
    later.connectionType(poptorch.ConnectionType.OnDemand)
    on_demand = poptorch.inferenceModel(nn.ReLU(), later)
    on_demand.compile(x)
    assert not on_demand.isAttachedToDevice()
    on_demand(x)
    assert on_demand.isAttachedToDevice()


def test_detached_executors_attach_by_themselves() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match="Model has not been compiled"):
        executor.detachFromDevice()
    executor(torch.ones(1))
    with pytest.raises(poptorch.Error, match="Device is already attached"):
        executor.attachToDevice()
    executor.detachFromDevice()
    with pytest.raises(poptorch.Error, match="Device is not attached"):
        executor.detachFromDevice()
    executor(torch.ones(1))
    assert executor.isAttachedToDevice()
    executor.destroy()
    executor.destroy()
    assert not executor.isCompiled()
    assert not executor.isAttachedToDevice()


def test_an_offline_model_compiles_and_does_not_run() -> None:
    offline = poptorch.Options().useOfflineIpuTarget()
    executor = poptorch.inferenceModel(nn.ReLU(), offline)
    with pytest.raises(AssertionError, match=r"use model.compile\(inputs\) instead"):
        executor(torch.ones(1))
    executor.compile(torch.ones(1))
    assert executor.isCompiled()
    assert not executor.isAttachedToDevice()
    with pytest.raises(AssertionError, match="attach to an offline device"):
        executor.attachToDevice()


def test_compiling_twice_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    executor.compile(torch.ones(1))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        executor.compile(torch.ones(1))
    assert "already compiled" in caplog.text


def test_hooks_run_around_each_compilation() -> None:
    calls: List[str] = []
    handles = [
        poptorch.registerPreCompileHook(lambda: calls.append("before")),
        poptorch.registerPostCompileHook(lambda: calls.append("after")),
    ]
    executor = poptorch.inferenceModel(nn.ReLU())
    executor(torch.ones(1))
    executor(torch.ones(1))
    for handle in handles:
        handle.remove()
    assert calls == ["before", "after"]


# ---- 2.13: figures -----------------------------------------------------------------------------


def test_perf_counters_are_in_order() -> None:
    executor = poptorch.inferenceModel(nn.ReLU(), options(deviceIterations=3))
    names = ("input", "input_complete", "output", "output_complete")
    assert executor.getPerfCounters() == {name: [[]] for name in names}
    assert executor.getLatency() == (0.0, 0.0, 0.0)
    executor(torch.ones(3))
    counters = executor.getPerfCounters()
    assert [len(counters[name][0]) for name in names] == [3, 3, 3, 3]
    for ticks in zip(*(counters[name][0] for name in names)):
        assert list(ticks) == sorted(ticks)
    least, greatest, mean = executor.getLatency()
    assert 0 < least <= mean <= greatest
    parts = [executor.getHostIpuLatency, executor.getComputeLatency, executor.getIpuHostLatency]
    assert sum(part()[2] for part in parts) == pytest.approx(mean)


def test_final_mode_times_one_output() -> None:
    final = options(deviceIterations=4).outputMode(poptorch.OutputMode.Final)
    executor = poptorch.inferenceModel(nn.ReLU(), final)
    executor(torch.ones(4))
    counters = executor.getPerfCounters()
    assert len(counters["input"][0]) == 4
    assert len(counters["output"][0]) == 1
    span = counters["output_complete"][0][0] - counters["input"][0][0]
    assert executor.getLatency() == (span, span, span)


def test_synthetic_data_gives_zeros_and_no_latency() -> None:
    synthetic = options(deviceIterations=2).enableSyntheticData(True)
    executor = poptorch.inferenceModel(nn.Linear(3, 4), synthetic)
    assert torch.equal(executor(torch.rand(6, 3)), torch.zeros(6, 4))
    assert executor.getLatency() == (0.0, 0.0, 0.0)


def test_cycles_are_for_hardware() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match="Cycle count logging is disabled"):
        executor.cycleCount()
    counting = poptorch.inferenceModel(nn.ReLU(), poptorch.Options().logCycleCount(True))
    with pytest.raises(poptorch.Error, match="at least once before obtaining cycle count"):
        counting.cycleCount()
    counting(torch.ones(1))
    with pytest.raises(poptorch.Error, match="only supported on actual IPU hardware"):
        counting.cycleCount()


def test_compilation_time_needs_a_compilation_and_the_progress_bar() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(poptorch.Error, match="Please compile the model"):
        executor.compilationTime()
    executor.compile(torch.ones(1))
    assert executor.compilationTime() > datetime.timedelta(0)
    silent = poptorch.Options().showCompilationProgressBar(False)
    executor = poptorch.inferenceModel(nn.ReLU(), silent)
    executor.compile(torch.ones(1))
    with pytest.raises(poptorch.Error, match="Please set showCompilationProgressBar"):
        executor.compilationTime()


def test_anchored_tensors_come_later() -> None:
    executor = poptorch.inferenceModel(nn.ReLU())
    with pytest.raises(AssertionError, match="must be compiled before calling getTensorNames"):
        executor.getTensorNames()
    with pytest.raises(AssertionError, match=r"No tensor with name a found."):
        executor.getAnchoredTensor("a")
    anchoring = poptorch.Options().anchorTensor("a", "fc/MatMul:0")
    with pytest.raises(NotImplementedError, match="anchorTensor"):
        poptorch.inferenceModel(nn.ReLU(), anchoring)(torch.ones(1))


# ---- the engine --------------------------------------------------------------------------------


def _channels_last(executor: poptorch.PoplarExecutor) -> bool:
    assert executor._engine is not None
    return executor._engine.layout.channels_last


def test_channels_last_is_kept_from_models_that_view() -> None:
    x = torch.rand(2, 3, 8, 8)
    model, plain = Views(), small_network()
    executor = poptorch.inferenceModel(model)
    torch.testing.assert_close(executor(x), model(x).detach())
    assert not _channels_last(executor)
    fast = poptorch.inferenceModel(plain)
    fast(x)
    assert _channels_last(fast)


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x).view(x.shape[0], -1)
        return result


def test_a_view_that_fails_when_it_runs_is_run_again_in_the_plain_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capture, "runs_channels_last", lambda *arguments: True)
    model, x = Views(), torch.rand(2, 3, 8, 8)
    executor = poptorch.inferenceModel(model)
    torch.testing.assert_close(executor(x), model(x).detach())
    assert not _channels_last(executor)
    assert len(executor.getPerfCounters()["input"][0]) == 1


def test_a_result_that_depends_on_something_else_is_an_error(wrap: Wrap) -> None:
    sizes = [2]
    executor = wrap(lambda x: x[:, : sizes[0]])
    executor(torch.ones(2, 4))
    sizes[0] = 3
    with pytest.raises(poptorch.Error, match="depends on something that is no input"):
        executor(torch.ones(2, 4))


def test_custom_operators_run_what_is_registered() -> None:
    def scale(inputs: List[Tensor], attributes: Dict[str, Any]) -> List[Tensor]:
        return [inputs[0] * attributes["by"]]

    host.register_custom_op("test.executor", "Scale", scale)

    def forward(x: Tensor) -> Tensor:
        (result,) = poptorch.custom_op(
            [x], "Scale", "test.executor", 1, example_outputs=[x], attributes={"by": 3.0}
        )
        return result + 1

    class Scales(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x)

    executor = poptorch.inferenceModel(Scales(), options(deviceIterations=2))
    assert executor(torch.tensor([1.0, 2.0])).tolist() == [4.0, 7.0]
    assert host.report(executor).operators["test.executor::Scale"] == 1
