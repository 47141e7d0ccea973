"""YAML files and `key=value` words into dataclasses, checked against their fields; the only file
that knows OmegaConf.

A schema is an unfrozen dataclass of primitives and enums with `typing` annotations, as OmegaConf
needs on Python 3.8.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any, List, Optional, Sequence, Type, TypeVar, cast

from omegaconf import OmegaConf
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
            merged = OmegaConf.merge(merged, OmegaConf.load(path))
        for word in overrides:
            key, equals, _ = word.partition("=")
            if not equals or not key or key.startswith(("+", "~", "-")):
                raise ValueError(
                    f"expected key=value, got '{word}'; keys are {', '.join(keys(schema))}"
                )
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([word]))
        return cast(Schema, OmegaConf.to_object(merged))
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise ValueError(unknown_key(schema, error, path)) from None
    except (GrammarParseError, YAMLError) as error:
        raise ValueError(f"{path or 'override'} is not YAML: {first_line(error)}") from None
    except OmegaConfBaseException as error:
        raise ValueError(wrong_value(schema, error)) from None


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


def find_recipe(folder: Path, name: str, noun: str) -> Path:
    """`folder/name.yaml`.

    Args:
        folder: of the recipes.
        name: file stem.
        noun: what to call it in the message.

    Raises:
        ValueError: there is none; the message has the nearest and all names.
    """
    path = folder / f"{name}.yaml"
    if path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"\ndid you mean {near[0]}?" if near else ""
    raise ValueError(f"no {noun} '{name}'{hint}\n{noun}s in {folder}: {', '.join(known) or 'none'}")
