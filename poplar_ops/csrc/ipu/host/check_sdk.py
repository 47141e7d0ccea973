"""`python -m poplar_ops.csrc.ipu.host.check_sdk`: type-checks the IPU operators without an IPU.

Always against our own declarations; with `--popart` also against PopART's own headers (a checkout
of its source or an SDK), where Poplar's come from `--poplar` or stay our declarations. Nothing is
linked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from poplar_ops.csrc.ipu.host.build import (
    HOST,
    IPU,
    STUBS,
    codelet_files,
    compile_cpp,
    operator_files,
)

__all__ = ["check", "main"]

WITHIN = (
    "include",
    "willow/include",
    ".",
)  # where an SDK, a checkout and a bare folder have headers


class Check(NamedTuple):
    """One compiler run; the arguments of `check` and what to call the headers."""

    source: Path
    ours: Sequence[Path]
    real: Sequence[Path]
    against: str


def check(source: Path, ours: Sequence[Path], real: Sequence[Path]) -> Optional[str]:
    """What the compiler says of a file, or None if it accepts it.

    Args:
        source: a file of an operator, or a codelet.
        ours: include folders of our declarations.
        real: include folders of the SDK's own headers, whose warnings are ignored.
    """
    flags = [f"-isystem{folder}" for folder in real] + [f"-I{folder}" for folder in [IPU, *ours]]
    try:
        compile_cpp(["-fsyntax-only", "-DONNX_NAMESPACE=onnx", *flags, source])
    except RuntimeError as error:
        return str(error)
    return None


def header_folder(setting: str, root: Path, header: str) -> Path:
    """The include folder below `root` that has `header`.

    Raises:
        ValueError: there is none.
    """
    for within in WITHIN:
        if (root / within / header).is_file():
            return root / within
    places = ", ".join(str(root / within) for within in WITHIN)
    raise ValueError(f"{setting} {root}: no {header} in {places}")


def real_folders(popart: Path, poplibs: Optional[Path], poplar: Optional[Path]) -> List[Path]:
    """Include folders of the headers that are not ours.

    Raises:
        ValueError: a folder does not have what its setting names.
    """
    folders = [header_folder("--popart", popart, "popart/op.hpp")]
    if poplibs is not None:
        folders.append(header_folder("--poplibs", poplibs, "poputil/TileMapping.hpp"))
    if poplar is not None:
        folders.append(header_folder("--poplar", poplar, "poplar/Graph.hpp"))
    return folders


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Check every operator and codelet; 0 if all pass, 1 if one fails, 2 for a wrong folder."""
    parser = argparse.ArgumentParser(prog="./dev check-sdk", description=__doc__)
    parser.add_argument(
        "--popart", type=Path, help="PopART: an SDK's or a source checkout's folder"
    )
    parser.add_argument("--poplibs", type=Path, help="PopLibs, which PopART's headers include")
    parser.add_argument("--poplar", type=Path, help="Poplar of an SDK, instead of our declarations")
    options = parser.parse_args(arguments)
    if options.popart is None and (options.poplibs or options.poplar):
        parser.error("--poplibs and --poplar only matter with --popart")
    operators = operator_files()
    own = "our own declarations of Poplar"
    checks = [Check(path, STUBS, [], f"{own} and PopART") for path in operators]
    checks += [Check(path, STUBS[:1], [], own) for path in codelet_files()]
    if options.popart is not None:
        try:
            real = real_folders(options.popart, options.poplibs, options.poplar)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        against = f"PopART's headers in {real[0]} and {'Poplar' if options.poplar else own}"
        kept = [HOST / "stubs" / "poprithms"] + ([] if options.poplar else STUBS[:1])
        checks += [Check(path, kept, real, against) for path in operators]
    names = [str(one.source.relative_to(IPU)) for one in checks]
    failed = 0
    for one, name in zip(checks, names):
        complaint = check(one.source, one.ours, one.real)
        failed += complaint is not None
        verdict = "type-checked" if complaint is None else "REFUSED"
        print(f"{name:<{max(map(len, names))}} {verdict} against {one.against}")
        if complaint is not None:
            print(complaint, file=sys.stderr)
    print("Never linked, never run on an IPU.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
