"""YAML and key=value against a schema: typos are answered with the right spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.experiment.inference_settings import InferenceSettings
from detectors.experiment.recipe import find_recipe, load_recipe


def load(*overrides: str, text: str = "", folder: Path = Path()) -> InferenceSettings:
    path = None
    if text:
        path = folder / "mine.yaml"
        path.write_text(text)
    return load_recipe(InferenceSettings, path, overrides)


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    settings = load("io_tiles=64", text="io_tiles: 32\nmicro_batch_size: 4\n", folder=tmp_path)
    assert (settings.io_tiles, settings.micro_batch_size) == (64, 4)
    assert settings.device_iterations == 1
    assert isinstance(settings, InferenceSettings)


def test_an_unknown_key_in_a_file_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no key 'io_tilez' in .*mine\.yaml; did you mean io_tiles\?"
    ):
        load(text="io_tilez: 32\n", folder=tmp_path)


def test_an_unknown_word_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no key 'micro_batch'.*mean micro_batch_size\?"):
        load("micro_batch=3")


@pytest.mark.parametrize(
    "word", ["micro_batch_size=abc", "micro_batch_size=1.5", "partials=double"]
)
def test_a_value_of_another_type_is_an_error_with_its_key(word: str) -> None:
    key, _, value = word.partition("=")
    with pytest.raises(ValueError, match=f"{key}: .*{value}.*by default"):
        load(word)


def test_a_value_out_of_range_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"io_tiles must be 0 or an even number in 32..192, got 33"
    ):
        load("io_tiles=33")
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1, got 0"):
        load("micro_batch_size=0")


@pytest.mark.parametrize("word", ["io_tiles", "+io_tiles=32", "=3"])
def test_words_that_are_not_key_and_value_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="expected key=value"):
        load(word)


def test_broken_yaml_is_an_error_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml is not YAML"):
        load(text="io_tiles: [32\n", folder=tmp_path)


def test_a_file_without_keys_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml must hold `key: value` lines"):
        load(text="- io_tiles\n", folder=tmp_path)


def test_small_numbers_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    settings = load(text="available_memory_proportion: 1e-1\n", folder=tmp_path)
    assert settings.available_memory_proportion == 0.1


def test_a_missing_recipe_is_answered_with_the_nearest(tmp_path: Path) -> None:
    for name in ("d0_throughput", "d0_low-latency"):
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(
        ValueError, match=r"no recipe 'd0_throughputt'\ndid you mean d0_throughput\?"
    ):
        find_recipe(tmp_path, "d0_throughputt", "recipe")
    assert find_recipe(tmp_path, "d0_low-latency", "recipe") == tmp_path / "d0_low-latency.yaml"
