"""The shipped settings, and what they become in PopTorch."""

from __future__ import annotations

from typing import Optional

import pytest
import torch

from detectors.experiment.inference_settings import (
    RECIPES,
    InferenceSettings,
    load_settings,
    poptorch_options,
)
from poplar_ops.runtime import poptorch

MODELS = [
    "efficientdet-d0",
    "efficientdet-d1",
    "efficientdet-d2",
    "efficientdet-d3",
    "efficientdet-d4",
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("config", ["throughput", "low-latency"])
def test_every_shipped_recipe_becomes_options(model: str, config: str) -> None:
    options = poptorch_options(load_settings(model, config))
    assert options.device_iterations == (100 if config == "throughput" else 1)


def test_there_is_no_recipe_that_the_tests_leave_out() -> None:
    assert len(list(RECIPES.glob("*.yaml"))) == 2 * len(MODELS)


@pytest.mark.parametrize(
    ("model", "batch", "tiles", "proportion"),
    [
        ("efficientdet-d0", 4, 96, 0.6),
        ("efficientdet-d1", 3, 96, 0.6),
        ("efficientdet-d2", 2, 96, 0.6),
        ("efficientdet-d3", 1, 0, 0.6),
        ("efficientdet-d4", 1, 0, 0.2),
    ],
)
def test_throughput_has_the_values_of_graphcores_example(
    model: str, batch: int, tiles: int, proportion: float
) -> None:
    settings = load_settings(model, "throughput")
    assert (settings.micro_batch_size, settings.io_tiles) == (batch, tiles)
    assert settings.available_memory_proportion == proportion
    assert settings.prefetch_depth == 4
    memory = model in ("efficientdet-d3", "efficientdet-d4")
    assert settings.exchange_target.value == ("memory" if memory else "default")


def convolution_options(settings: InferenceSettings) -> Optional[object]:
    found: Optional[object] = poptorch_options(settings)._Popart.options.get("convolutionOptions")
    return found


def test_partials_and_dithering_are_written_in_one_dictionary() -> None:
    # PopTorch's own setters replace the dictionary, so that the second undoes the first.
    assert convolution_options(InferenceSettings(convolution_dithering=True)) == {
        "partialsType": "half",
        "enableConvDithering": "true",
    }
    assert convolution_options(InferenceSettings()) == {"partialsType": "half"}

    options = poptorch.Options()
    options.Precision.setPartialsType(torch.half)
    options.Training.setConvolutionDithering(True)
    assert "partialsType" not in options._Popart.options["convolutionOptions"]  # the trap


def test_engine_options_carry_the_exchange_target() -> None:
    settings = load_settings("efficientdet-d4", "throughput")
    engine = poptorch_options(settings)._Popart.options["engineOptions"]
    assert engine["opt.internalExchangeOptimisationTarget"] == "memory"
    assert engine["streamCallbacks.multiThreadMode"] == "collaborative"
    unset = poptorch_options(InferenceSettings())._Popart.options["engineOptions"]
    assert "opt.internalExchangeOptimisationTarget" not in unset


def test_a_connection_of_never_compiles_without_a_device() -> None:
    settings = load_settings("efficientdet-d0", "low-latency", ["connection=never"])
    options = poptorch_options(settings)
    assert options.connection_type == poptorch.ConnectionType.Never.value
    assert options.ipu_version == 2


def test_memory_proportion_is_the_first_ipus() -> None:
    options = poptorch_options(InferenceSettings(available_memory_proportion=0.3))
    assert list(options.available_memory_proportion.values()) == [0.3]


def test_a_model_without_a_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no --config 'throughput' for efficientdet-d7"):
        load_settings("efficientdet-d7", "throughput")


def test_a_recipes_whole_name_is_understood_and_a_typo_answered() -> None:
    whole = load_settings("efficientdet-d0", "efficientdet-d0_throughput")
    assert whole == load_settings("efficientdet-d0", "throughput")
    with pytest.raises(ValueError, match=r"(?s)did you mean throughput\?.*low-latency, throughput"):
        load_settings("efficientdet-d0", "thruput")


def test_one_of_poplars_options_is_set_with_its_dots() -> None:
    word = "engine_options.opt.maxComputeSetsPerLoopTarget=5"
    settings = load_settings("efficientdet-d0", "throughput", [word])
    assert settings.engine_options["opt.maxComputeSetsPerLoopTarget"] == "5"
    assert settings.engine_options["streamCallbacks.numWorkerThreads"] == "6"  # the others stay
