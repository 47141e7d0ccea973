"""Options from text: the environment, JSON and files of accessor calls (1.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

import poptorch_host as poptorch


def test_environment_gives_cache_and_defaults(
    options: poptorch.Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POPTORCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(
        "POPTORCH_DEFAULT_OPTIONS",
        '{"deviceIterations": 4, "outputMode": ["OutputMode.EveryN", 2],'
        ' "Training.gradientAccumulation": 8, "_Popart.set": ["outlineThreshold", 1.5]}',
    )
    made = poptorch.Options()
    assert made._Popart.options["cachePath"] == str(tmp_path)
    assert made._Popart.options["outlineThreshold"] == 1.5
    assert made.device_iterations == 4
    assert made.output_mode is poptorch.OutputMode.EveryN
    assert made.output_return_period == 2
    assert made.Training.gradient_accumulation == 8


def test_json_refuses_unknown_accessors_and_other_shapes(options: poptorch.Options) -> None:
    with pytest.raises(AttributeError, match="Invalid attribute anchorMode"):
        options.from_json('{"anchorMode": "OutputMode.All"}')
    with pytest.raises(ValueError, match="device_iterations is no method"):
        options.from_json('{"device_iterations": 3}')
    with pytest.raises(ValueError, match="an object"):
        options.from_json("[1, 2]")


def test_a_file_makes_one_call_a_line(options: poptorch.Options, tmp_path: Path) -> None:
    file = tmp_path / "options.txt"
    file.write_text(
        "# settings of the first run\n"
        "\n"
        "deviceIterations(4)  # steps\n"
        "outputMode(poptorch.OutputMode.All)\n"
        "setExecutionStrategy(poptorch.ShardedExecution(poptorch.AutoStage.AutoIncrement))\n"
        "Training.gradientAccumulation(8)\n"
        "Precision.setPartialsType(torch.half)\n"
        'setAvailableMemoryProportion({"IPU0": 0.25})\n'
        "TensorLocations.setOptimizerLocation(\n".replace("(\n", "(")
        + "poptorch.TensorLocationSettings().useOnChipStorage(True))\n"
        '_Popart.set("a", -1)\n'
    )
    assert options.loadFromFile(file) is options
    assert options.device_iterations == 4
    assert options.output_mode is poptorch.OutputMode.All
    assert options._execution_strategy.auto_stage is poptorch.AutoStage.AutoIncrement
    assert options.Training.gradient_accumulation == 8
    assert options._Popart.options["partialsTypeMatMuls"] == "half"
    assert options.available_memory_proportion == {0: 0.25}
    assert options.TensorLocations.toDict()["location_optimizer"] == {"onChip": True}
    assert options._Popart.options["a"] == -1


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("anchorMode(1)", "Invalid attribute anchorMode"),
        ("deviceIterations('a')", "Unexpected type"),
        ("deviceIterations", "expected one call"),
        ("deviceIterations(4", ""),
        ("import os", "expected one call"),
        ("deviceIterations(__import__('os').getpid())", "unknown name __import__"),
        ("deviceIterations.__globals__.get(4)", "not allowed"),
    ],
)
def test_a_bad_line_is_named(
    options: poptorch.Options, tmp_path: Path, line: str, detail: str
) -> None:
    file = tmp_path / "options.txt"
    file.write_text(f"replicationFactor(2)\n{line}\n")
    with pytest.raises(poptorch.ConfigFileError) as raised:
        options.loadFromFile(str(file))
    message = str(raised.value)
    assert "line 2" in message
    assert str(file) in message
    assert detail in message
    assert message.endswith(f"> {line}")
