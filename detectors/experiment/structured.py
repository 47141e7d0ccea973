"""YAML files and `key=value` words into dataclasses, checked against their fields, and back; the
only file that knows OmegaConf.

A schema is an unfrozen dataclass of primitives, enums and such dataclasses ("sections"), with
`typing` annotations, as OmegaConf needs on Python 3.8.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    GrammarParseError,
    OmegaConfBaseException,
)
from yaml import YAMLError

from detectors.experiment.complaints import field_types, unknown_key, wrong_value

__all__ = ["fill_schema", "find_recipe", "flat", "yaml_text"]

Schema = TypeVar("Schema")


def fill_schema(
    schema: Type[Schema],
    path: Optional[Path] = None,
    overrides: Sequence[str] = (),
    *,
    name: str = "",
    limits: Optional[Mapping[str, str]] = None,
    nicknames: Optional[Mapping[str, str]] = None,
) -> Schema:
    """The schema's defaults, changed by a file, changed by words.

    A section given as one word (`augment: albumentations`, `augment=albumentations`) is the value
    of its first field.

    Args:
        schema: a dataclass.
        path: YAML; None for the defaults alone.
        overrides: `key=value`, dotted keys for nested ones.
        name: what messages about overrides call the file.
        limits: key -> what it must be ("a number > 0"), for messages; else its type is said.
        nicknames: what others call a key -> key, for messages.

    Raises:
        ValueError: a key that the schema lacks (with the nearest), a value of another type, or not
            YAML.
        FileNotFoundError: there is no such file.
    """
    merged = OmegaConf.structured(schema)
    where, asked, nicknames = str(path or ""), "", nicknames or {}
    try:
        if path is not None:
            merged = OmegaConf.merge(merged, with_sections(schema, read_yaml(path)))
        where = name
        for word in overrides:
            asked = word.partition("=")[0]
            change = OmegaConf.create(one_value(schema, word, merged, nicknames))
            merged = OmegaConf.merge(merged, with_sections(schema, change))
        return cast(Schema, OmegaConf.to_object(merged))
    except (ConfigKeyError, ConfigAttributeError) as error:
        key = str(error.full_key or error.key)
        key = asked if asked.startswith(f"{key}.") else key  # OmegaConf stops at the section
        raise ValueError(unknown_key(key, where, current(schema, merged), nicknames)) from None
    except (GrammarParseError, YAMLError) as error:
        what = f"the value of {asked}" if asked else str(path)
        hint = "; a list has no blanks, or quotes around the word" if asked else ""
        raise ValueError(f"{what} is not YAML: {first_line(error)}{hint}") from None
    except OmegaConfBaseException as error:
        raise ValueError(refused_value(schema, error, limits or {})) from None


def read_yaml(path: Path) -> DictConfig:
    """A file of `key: value` lines."""
    try:
        content = OmegaConf.load(path)
    except OSError as error:
        if error.errno is not None:  # the system's: no such file, no permission
            raise
        raise ValueError(f"{path} must hold `key: value` lines") from None
    if not isinstance(content, DictConfig):
        raise ValueError(f"{path} must hold `key: value` lines, got a list")
    return content


def one_value(
    schema: Type[Any], word: str, merged: Any, nicknames: Mapping[str, str]
) -> Dict[str, Any]:
    """`key=value` as nested dictionaries. Below a dictionary of free keys (Poplar's options are
    `opt.maxComputeSetsPerLoop`) a dot is a part of the key.
    """
    key, equals, text = word.partition("=")
    plain = key.lstrip("+~-")
    if not equals or plain != key or not key:
        now = current(schema, merged)
        if not plain:
            advice = f"keys are {', '.join(field.name for field in fields(schema))}"
        elif plain in now:
            advice = f"write {plain}={text or 'VALUE'}"
        else:
            advice = unknown_key(plain, "", now, nicknames)
        raise ValueError(f"expected key=value, got '{word}'; {advice}")
    value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    assert isinstance(value, dict)
    nested = value["value"]
    for part in reversed(path_of(schema, key)):
        nested = {part: nested}
    return cast(Dict[str, Any], nested)


def path_of(schema: Type[Any], key: str) -> List[str]:
    """A dotted key's parts; what follows a dictionary of free keys is one part."""
    free = [one for one, kind in field_types(schema).items() if is_dictionary(kind)]
    for one in free:
        if key.startswith(f"{one}."):
            return [*one.split("."), key[len(one) + 1 :]]
    return key.split(".")


def is_dictionary(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is dict


def with_sections(schema: Type[Any], content: DictConfig) -> DictConfig:
    """Sections that are one word, written out: `{augment: own}` -> `{augment: {library: own}}`."""
    default = schema()
    for key in list(content):
        section = getattr(default, str(key), None)
        plain = not OmegaConf.is_missing(content, key) and not OmegaConf.is_config(content[key])
        if is_dataclass(section) and plain:
            content[key] = {fields(section)[0].name: content[key]}
    return content


def current(schema: Type[Any], config: Any) -> Dict[str, Any]:
    """Every key with its value in OmegaConf's config."""
    return {key: OmegaConf.select(config, key) for key in field_types(schema)}


def flat(instance: Any) -> Dict[str, Any]:
    """Key -> value of a filled schema, in the order of the fields."""
    found: Dict[str, Any] = {}
    for key in field_types(type(instance)):
        value = instance
        for part in key.split("."):
            value = getattr(value, part)
        found[key] = value
    return found


def refused_value(
    schema: Type[Any], error: OmegaConfBaseException, limits: Mapping[str, str]
) -> str:
    """What OmegaConf says about a value, in our words."""
    key = str(error.full_key or error.key).partition("[")[0]
    kinds = field_types(schema)
    if key not in kinds:
        return f"{key}: {first_line(error)}"
    return wrong_value(key, plain_value(error.value), kinds[key], limits.get(key, ""))


def plain_value(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def yaml_text(instance: Any) -> str:
    """A filled schema as YAML; `fill_schema` makes an equal one of it."""
    return str(OmegaConf.to_yaml(OmegaConf.structured(instance)))


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
        f"no {noun} '{name}'{of}{hint}\n{noun.lstrip('-')}s: {', '.join(known) or 'none'};"
        " or give a YAML file"
    )
