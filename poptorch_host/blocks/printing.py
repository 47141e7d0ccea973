"""A module as text, with the blocks it begins."""

from __future__ import annotations

import builtins
from typing import Any, List

from torch import nn

from .blocks import block_hook


def module_repr(module: nn.Module) -> str:
    """`repr(module)` with `BeginBlock(user_id=..., ipu_id=...) ` before modules that begin one."""
    if not any(block_hook(descendant) is not None for descendant in module.modules()):
        return repr(module)
    hook = block_hook(module)
    mark = "" if hook is None else f"{hook!r} "
    children: List[str] = []
    for name, child in module.named_children():
        text = module_repr(child).replace("\n", "\n  ")
        children.append(f"  ({name}): {text}\n")
    if not children:
        return mark + repr(module)
    extra = f"  {module.extra_repr()}\n" if module.extra_repr() else ""
    return f"{mark}{type(module).__name__}(\n{extra}{''.join(children)})"


def print(*values: Any, **options: Any) -> None:
    """The builtin `print`, which shows modules with `module_repr`."""
    shown = [module_repr(v) if isinstance(v, nn.Module) else v for v in values]
    builtins.print(*shown, **options)
