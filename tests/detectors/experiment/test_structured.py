"""YAML and key=value against a schema: typos are answered with the right spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from detectors.experiment.inference_settings import InferenceSettings
from detectors.experiment.structured import fill_schema, find_recipe, flat, yaml_text


def load(*overrides: str, text: str = "", folder: Path = Path()) -> InferenceSettings:
    path = None
    if text:
        path = folder / "mine.yaml"
        path.write_text(text)
    return fill_schema(InferenceSettings, path, overrides)


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    settings = load("io_tiles=64", text="io_tiles: 32\nmicro_batch_size: 4\n", folder=tmp_path)
    assert (settings.io_tiles, settings.micro_batch_size) == (64, 4)
    assert settings.device_iterations == 1
    assert isinstance(settings, InferenceSettings)


def test_an_unknown_key_in_a_file_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no key 'io_tilez' in .*mine\.yaml; did you mean io_tiles \(now 0\)\?"
    ):
        load(text="io_tilez: 32\n", folder=tmp_path)


def test_an_unknown_word_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no key 'micro_batch'; did you mean micro_batch_size"):
        load("micro_batch=3")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("micro_batch_size=abc", "micro_batch_size must be a whole number, got 'abc'"),
        ("micro_batch_size=1.5", "micro_batch_size must be a whole number, got 1.5"),
        ("partials=hal", "partials must be one of float, half, got 'hal'; did you mean half?"),
        ("convolution_dithering=maybe", "convolution_dithering must be true or false, got 'maybe'"),
        ("executable_cache=null", "executable_cache must be text, got null"),
        ("engine_options=3", "engine_options must be pairs {name: value}, got 3"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_says_what_it_must_be(
    word: str, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(word)


def test_a_value_out_of_range_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"io_tiles must be 0 or an even number in 32..192, got 33"
    ):
        load("io_tiles=33")
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1, got 0"):
        load("micro_batch_size=0")


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("io_tiles", "write io_tiles=VALUE"),
        ("+io_tiles=32", "write io_tiles=32"),
        ("~io_tiles", "write io_tiles=VALUE"),
        ("--io_tiles=32", "write io_tiles=32"),
        ("--io_tilez", "did you mean io_tiles"),
        ("=3", "keys are micro_batch_size, "),
    ],
)
def test_words_that_are_not_key_and_value_are_answered_with_what_to_write(
    word: str, advice: str
) -> None:
    with pytest.raises(ValueError, match="expected key=value") as caught:
        load(word)
    assert advice in str(caught.value)


def test_below_free_keys_a_dot_is_a_part_of_the_key() -> None:
    assert (
        load("engine_options.opt.maxComputeSetsPerLoop=3").engine_options[
            "opt.maxComputeSetsPerLoop"
        ]
        == "3"
    )


def test_broken_yaml_is_an_error_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml is not YAML"):
        load(text="io_tiles: [32\n", folder=tmp_path)


def test_a_file_without_keys_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml must hold `key: value` lines"):
        load(text="- io_tiles\n", folder=tmp_path)


def test_a_file_of_one_number_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml must hold `key: value` lines"):
        load(text="3\n", folder=tmp_path)


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


class Colour(Enum):
    """Of a lamp."""

    red = "red"
    blue = "blue"


@dataclass
class Lamp:
    """A section."""

    colour: Colour = Colour.red
    watts: float = 5.0


@dataclass
class Room:
    """A schema with a section, as recipes are."""

    lamp: Lamp = field(default_factory=Lamp)
    chairs: List[str] = field(default_factory=list)
    names: Dict[str, str] = field(default_factory=dict)
    size: Any = 3
    owner: Optional[str] = None
    windows: Optional[List[int]] = None


def test_a_section_given_as_one_word_is_its_first_field(tmp_path: Path) -> None:
    path = tmp_path / "room.yaml"
    path.write_text("lamp: blue\n")
    assert fill_schema(Room, path).lamp == Lamp(Colour.blue, 5.0)
    assert fill_schema(Room, None, ["lamp=blue", "lamp.watts=7"]).lamp == Lamp(Colour.blue, 7.0)
    assert fill_schema(Room, None, ["lamp.watts=7", "lamp=blue"]).lamp == Lamp(Colour.blue, 7.0)


def test_a_wrong_word_for_a_section_is_an_error_of_its_first_field() -> None:
    with pytest.raises(ValueError, match=r"lamp\.colour must be one of red, blue, got 'bleu'"):
        fill_schema(Room, None, ["lamp=bleu"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lamp.wats=3", "no key 'lamp.wats' in attic; did you mean lamp.watts (now 5.0)?"),
        ("watts=3", "no key 'watts' in attic; did you mean lamp.watts (now 5.0)?"),
        ("lamps.watts=3", "no key 'lamps.watts' in attic; did you mean lamp.watts (now 5.0)?"),
        ("lamp.power=3", "no key 'lamp.power' in attic; did you mean lamp.watts (now 5.0)?"),
        ("lamp={wats: 3}", "no key 'lamp.wats' in attic; did you mean lamp.watts (now 5.0)?"),
        ("lamp.xyz=3", "no key 'lamp.xyz' in attic; keys of lamp are colour, watts"),
        (
            "xyz=3",
            "no key 'xyz' in attic; keys are lamp, chairs, names, size, owner, windows",
        ),
        ("lamp.watts=bright", "lamp.watts must be a number over nothing, got 'bright'"),
        ("lamp.watts.x=3", "lamp.watts must be a number over nothing, got {'x': 3}"),
        ("chairs=3", "chairs must be a list of names, got 3"),
        ("windows=[a]", "windows must be a list of whole numbers or null, got 'a'"),
    ],
)
def test_mistakes_in_sections_are_named_by_their_dotted_keys(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fill_schema(
            Room,
            None,
            [word],
            name="attic",
            limits={"lamp.watts": "a number over nothing"},
            nicknames={"power": "lamp.watts"},
        )


def test_a_key_has_the_value_of_the_words_before_in_the_hint() -> None:
    with pytest.raises(ValueError, match=r"did you mean lamp\.watts \(now 9\.0\)\?"):
        fill_schema(Room, None, ["lamp.watts=9", "lamp.wats=3"])


def test_yaml_text_is_read_back_as_the_same(tmp_path: Path) -> None:
    room = Room(Lamp(Colour.blue, 1e-5), ["a", "1"], {"Cat": "on"}, [3, 4], None, [1])
    path = tmp_path / "room.yaml"
    path.write_text(yaml_text(room))
    assert fill_schema(Room, path) == room


def test_flat_has_the_dotted_keys_of_sections() -> None:
    assert flat(Room()) == {
        "lamp.colour": Colour.red,
        "lamp.watts": 5.0,
        "chairs": [],
        "names": {},
        "size": 3,
        "owner": None,
        "windows": None,
    }
