"""What is wrong with a key or a value of a schema, in a person's words.

A key is the dotted path of a field, `optim.lr`. `limits` are texts that end a sentence, such as
`"a number > 0"`, by key.
"""

from __future__ import annotations

import difflib
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Dict, List, Mapping, Sequence, Type, Union

__all__ = ["field_types", "nearest_key", "unknown_key", "wrong_value"]

NOUNS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
SYNONYMS = {"gpu": "cuda"}  # by its letters it is nearer to ipu
SEVERAL = {int: "whole numbers", float: "numbers", str: "names"}


def field_types(schema: Type[Any], prefix: str = "") -> Dict[str, Any]:
    """Key -> annotation, in the order of the fields; a section has its fields' keys alone."""
    hints = typing.get_type_hints(schema)
    found: Dict[str, Any] = {}
    for field in fields(schema):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            found.update(field_types(kind, f"{prefix}{field.name}."))
        else:
            found[prefix + field.name] = kind
    return found


def nearest_key(key: str, known: Sequence[str], nicknames: Mapping[str, str]) -> str:
    """The key that was meant, else "": the same name in another section, another project's name
    for it, or a similar name, sooner in the section that was named.
    """
    section, _, last = key.rpartition(".")
    if not section and last in nicknames:
        return nicknames[last]
    same = [one for one in known if one.rpartition(".")[2] == last]
    if same:
        return difflib.get_close_matches(key, same, n=1, cutoff=0.0)[0]
    if last in nicknames:
        return nicknames[last]
    inside = [one for one in known if one.rpartition(".")[0] == section]
    for candidates, cutoff in ((inside, 0.5), (known, 0.6)):
        ends = {one.rpartition(".")[2]: one for one in reversed(candidates)}
        near = difflib.get_close_matches(last, ends, n=1, cutoff=cutoff)
        if near:
            return ends[near[0]]
    return ""


def unknown_key(key: str, where: str, now: Mapping[str, Any], nicknames: Mapping[str, str]) -> str:
    """`no key 'optim.learning_rate' in voc_custom; did you mean optim.lr (now 0.02)?`

    Args:
        key: what was asked for.
        where: file or recipe; "" for none.
        now: every key with its value.
        nicknames: another project's name -> key.
    """
    near = nearest_key(key, list(now), nicknames)
    if near:
        hint = f"did you mean {near} (now {told(now[near])})?"
    else:
        section = key.partition(".")[0]
        inside = [one[len(section) + 1 :] for one in now if one.startswith(f"{section}.")]
        tops = list(dict.fromkeys(one.partition(".")[0] for one in now))
        hint = f"keys{f' of {section}' if inside else ''} are {', '.join(inside or tops)}"
    return f"no key '{key}'" + (f" in {where}" if where else "") + f"; {hint}"


def wrong_value(key: str, value: Any, kind: Any, limit: str = "") -> str:
    """`optim.lr must be a number > 0, got 'abc'`.

    Args:
        key: whose.
        value: what came.
        kind: the key's annotation.
        limit: what it must be, instead of the annotation's words.
    """
    text = f"{key} must be {limit or wanted(kind)}, got {told(value)}"
    words = choices(kind) or one_of(limit)
    value = SYNONYMS.get(str(value), value)
    near = difflib.get_close_matches(str(value), words, n=1, cutoff=0.6)
    return text + (f"; did you mean {near[0]}?" if near else "")


def told(value: Any) -> str:
    """A value as a person writes it: 'abc', 0.02, [1, 2], null, step."""
    if value is None:
        return "null"
    if isinstance(value, Enum):
        return str(value.name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def wanted(kind: Any) -> str:
    """An annotation in words: `a whole number`, `a list of names`, `text or null`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Union:
        return " or ".join(wanted(one) for one in inner if one is not type(None)) + " or null"
    if origin is list:
        return f"a list of {SEVERAL[inner[0]]}"
    if origin is dict:
        return "pairs {name: value}"
    return f"one of {', '.join(choices(kind))}" if choices(kind) else NOUNS[kind]


def choices(kind: Any) -> List[str]:
    """The words of an enum; none for other annotations."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.name for member in kind]
    return []


def one_of(limit: str) -> List[str]:
    """The words of a limit such as "one of float, half"."""
    return limit.partition("one of ")[2].split(", ")
