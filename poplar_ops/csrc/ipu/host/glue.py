"""Writes the C++ table of a codelet file's vertex classes, from their names and field names.

Poplar's own compiler reads fields from the class; C++17 has no reflection, so this module finds the
names with regular expressions and leaves every type to the compiler (`vertices.hpp`). It reads
codelets in the house's layout: one declaration a line, fields public, no template classes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, List, Tuple

__all__ = ["glue_source", "vertex_fields"]

CLASS = re.compile(r"^class (\w+) : public poplar::(?:Multi)?Vertex \{$(.*?)^\};$", re.M | re.S)
FIELD = re.compile(r"^  (?:(?:Input|Output|InOut)<.+>|float|int|unsigned) (\w+);", re.M)


def vertex_fields(codelet: Path) -> Iterator[Tuple[str, List[str]]]:
    """(class name, names of its fields in order) of each vertex class in a codelet file.

    Raises:
        ValueError: the file has no vertex class, or one without fields, that can be read.
    """
    classes = CLASS.findall(codelet.read_text())
    if not classes:
        raise ValueError(f"{codelet}: no 'class X : public poplar::Vertex {{' at a line's start")
    for name, body in classes:
        fields = FIELD.findall(body)
        if not fields:
            raise ValueError(f"{codelet}: vertex {name} has no fields in the house's layout")
        yield name, fields


def glue_source(codelet: Path) -> str:
    """A C++ file that includes the codelet unchanged and describes its vertex classes."""
    lines = [f'#include "{codelet.resolve()}"', '#include "vertices.hpp"', ""]
    lines += ["namespace {", "using poplar::host::describe, poplar::host::field;"]
    lines += ["const bool known = poplar::host::add_vertex_classes({"]
    for name, fields in vertex_fields(codelet):
        table = ", ".join(f'field<&::{name}::{field}>("{field}")' for field in fields)
        lines.append(f'    describe<::{name}>("{name}", {{{table}}}),')
    lines += ["});", "}  // namespace", ""]
    return "\n".join(lines)
