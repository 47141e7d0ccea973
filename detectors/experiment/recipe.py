"""YAML files and `key=value` words into dataclasses, checked against their fields; the only file
that knows OmegaConf.

A schema is an unfrozen dataclass of primitives and enums with `typing` annotations, as OmegaConf
needs on Python 3.8.
"""

from __future__ import annotations

import difflib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, List, Optional, Sequence, Type, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    GrammarParseError,
    OmegaConfBaseException,
)
from yaml import YAMLError

__all__ = ["find_recipe", "load_recipe"]

Schema = TypeVar("Schema")


def load_recipe(
    schema: Type[Schema], path: Optional[Path] = None, overrides: Sequence[str] = ()
) -> Schema:
    """The schema's defaults, changed by a file, changed by words.

    Args:
        schema: a dataclass.
        path: YAML; None for the defaults alone.
        overrides: `key=value`, dotted keys for nested ones.

    Raises:
        ValueError: a key that the schema lacks (with the nearest), a value of another type, or not
            YAML.
        FileNotFoundError: there is no such file.
    """
    try:
        merged = OmegaConf.structured(schema)
        if path is not None:
            content = OmegaConf.load(path)
            if not isinstance(content, DictConfig):
                raise ValueError(f"{path} must hold `key: value` lines, got a list")
            merged = OmegaConf.merge(merged, content)
        for word in overrides:
            key, equals, _ = word.partition("=")
            if not equals or not key or key.startswith(("+", "~", "-")):
                raise ValueError(
                    f"expected key=value, got '{word}'; keys are {', '.join(keys(schema))}"
                )
            merged = OmegaConf.merge(merged, one_value(schema, key, word))
        return cast(Schema, OmegaConf.to_object(merged))
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise ValueError(unknown_key(schema, error, path)) from None
    except (GrammarParseError, YAMLError) as error:
        raise ValueError(f"{path or 'override'} is not YAML: {first_line(error)}") from None
    except OmegaConfBaseException as error:
        raise ValueError(wrong_value(schema, error)) from None


def one_value(schema: Type[Any], key: str, word: str) -> DictConfig:
    """`key=value` as a config. Below a dictionary of free keys (Poplar's options are
    `opt.maxComputeSetsPerLoop`) a dot is a part of the key.
    """
    value = OmegaConf.from_dotlist([word])
    name, dot, rest = key.partition(".")
    if dot and name in free_keys(schema):
        return OmegaConf.create({name: {rest: OmegaConf.select(value, key)}})
    return value


def free_keys(schema: Type[Any]) -> List[str]:
    """The fields that are dictionaries."""
    return [f.name for f in fields(schema) if f.default_factory is not MISSING]


def keys(schema: Type[Any]) -> List[str]:
    return [field.name for field in fields(schema)]


def unknown_key(schema: Type[Any], error: OmegaConfBaseException, path: Optional[Path]) -> str:
    key = str(error.full_key or error.key)
    near = difflib.get_close_matches(key, keys(schema), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"keys are {', '.join(keys(schema))}"
    where = f" in {path}" if path is not None else ""
    return f"no key '{key}'{where}; {hint}"


def wrong_value(schema: Type[Any], error: OmegaConfBaseException) -> str:
    """`micro_batch_size: Value 'abc' of type 'str' could not be converted to Integer (now 1)`."""
    key = str(error.full_key or error.key)
    default = next((field.default for field in fields(schema) if field.name == key), None)
    default = getattr(default, "name", default)
    return f"{key}: {first_line(error)} (by default {default})"


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def find_recipe(folder: Path, name: str, noun: str, *, prefix: str = "") -> Path:
    """`folder/<prefix><name>.yaml`.

    Args:
        folder: of the recipes.
        name: what a person says; the whole file stem is understood too.
        noun: what to call it in the message.
        prefix: what the stems of the recipes in question start with.

    Raises:
        ValueError: there is none; the message has the nearest and all names.
    """
    known = sorted(file.stem[len(prefix) :] for file in folder.glob(f"{prefix}*.yaml"))
    short = name[len(prefix) :] if name.startswith(prefix) else name
    if short in known:
        return folder / f"{prefix}{short}.yaml"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"\ndid you mean {near[0]}?" if near else ""
    of = f" for {prefix.rstrip('_')}" if prefix else ""
    raise ValueError(
        f"no {noun} '{name}'{of}{hint}\nthere are in {folder}: {', '.join(known) or 'none'};"
        " or give a YAML file"
    )
