"""An executor wraps a module and returns what it returns (1.7), whatever layout the engine keeps.

Section numbers are those of the PopTorch behaviour that is followed.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import poptorch_host as poptorch
from poptorch_host import host
from poptorch_host.capture import capture

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
