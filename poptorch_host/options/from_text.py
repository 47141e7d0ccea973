"""Options from text: a JSON object, or a file with one accessor call a line."""

from __future__ import annotations

import ast
import json
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Union

import torch

from .. import enums
from ..blocks import strategies
from ..errors import ConfigFileError
from .tensor_locations import TensorLocationSettings

if TYPE_CHECKING:
    from .options import Options

_NAMES: Dict[str, Any] = {
    **enums.ENUMERATIONS,
    "PipelinedExecution": strategies.PipelinedExecution,
    "ShardedExecution": strategies.ShardedExecution,
    "SerialPhasedExecution": strategies.SerialPhasedExecution,
    "ParallelPhasedExecution": strategies.ParallelPhasedExecution,
    "Phase": strategies.Phase,
    "Stage": strategies.Stage,
    "TensorLocationSettings": TensorLocationSettings,
}
"""What a line of a file may name, with or without `poptorch.` before it."""
_DTYPES = ("float", "float32", "half", "float16")


def apply_json(options: Options, text: str) -> None:
    """Call `options`' methods for each entry of a JSON object, in order."""
    entries = json.loads(text)
    if not isinstance(entries, dict):
        raise ValueError(
            'options as JSON are an object such as {"deviceIterations": 4},'
            f" got {type(entries).__name__}"
        )
    for path, value in entries.items():
        arguments = value if isinstance(value, list) else [value]
        _accessor(options, path)(*[_with_enums(argument) for argument in arguments])


def apply_file(options: Options, path: Union[str, os.PathLike[str]]) -> None:
    """Make the call of each line of a file; `#` begins a comment."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                _call_line(options, line)
            except Exception as error:
                raise ConfigFileError(
                    f"Error at line {number} of file {path}: {error}\n> {line.strip()}"
                ) from error


def _accessor(options: Options, path: str) -> Callable[..., Any]:
    found: Any = options
    for name in path.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"{path} is no method of poptorch.Options")
    return found  # type: ignore[no-any-return]  # getattr


def _with_enums(value: Any) -> Any:
    if isinstance(value, str):
        member = enums.enum_by_text(value)
        return value if member is None else member
    if isinstance(value, list):
        return [_with_enums(one) for one in value]
    return value


def _call_line(options: Options, line: str) -> None:
    body = ast.parse(line.strip()).body
    if not body:
        return  # blank or a comment
    if (
        len(body) > 1
        or not isinstance(body[0], ast.Expr)
        or not isinstance(body[0].value, ast.Call)
    ):
        raise ValueError("expected one call, such as deviceIterations(4)")
    call = body[0].value
    _value(call, lambda name: getattr(options, name))


def _value(node: ast.expr, root: Callable[[str], Any]) -> Any:
    """Evaluate literals, names, attributes and calls; nothing else."""
    if isinstance(node, ast.Call):
        # Only the outermost name is an accessor; inside the brackets names are poptorch's.
        function = _value(node.func, root)
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("** is not allowed")
        keywords = {str(k.arg): _value(k.value, _public_name) for k in node.keywords}
        return function(*[_value(argument, _public_name) for argument in node.args], **keywords)
    if isinstance(node, ast.Attribute):
        if node.attr.startswith("__"):
            raise ValueError(f"{node.attr} is not allowed")
        base = _value(node.value, root)
        return base[node.attr] if isinstance(base, _Module) else getattr(base, node.attr)
    if isinstance(node, ast.Name):
        return root(node.id)
    if isinstance(node, ast.List):
        return [_value(element, root) for element in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(element, root) for element in node.elts)
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise ValueError("** is not allowed")
        return {
            _value(key, root): _value(value, root)
            for key, value in zip(node.keys, node.values)
            if key is not None
        }
    return ast.literal_eval(node)


class _Module(Dict[str, Any]):
    """The names behind `poptorch.` or `torch.` in a file."""


def _public_name(name: str) -> Any:
    modules: Mapping[str, Any] = {
        "poptorch": _Module(_NAMES),
        "torch": _Module({dtype: getattr(torch, dtype) for dtype in _DTYPES}),
    }
    if name in modules:
        return modules[name]
    if name not in _NAMES:
        raise ValueError(f"unknown name {name}")
    return _NAMES[name]
