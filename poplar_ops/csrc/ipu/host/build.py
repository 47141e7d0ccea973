"""Compiles our codelets, and the operators with a simulated device, for this machine's CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Optional, Sequence

from poplar_ops.csrc.ipu.host.glue import glue_source

__all__ = [
    "HOST",
    "IPU",
    "build_operator",
    "codelet_files",
    "compile_cpp",
    "find_compiler",
    "operator_files",
]

HOST = Path(__file__).resolve().parent
IPU = HOST.parent

STUBS = [HOST / "stubs" / "poplar", HOST / "stubs" / "popart"]
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
# -ffp-contract=off: no fused multiply-add, so that a CPU that has one gives the same bits.
OBJECT = ["-O0", "-fPIC", "-ffp-contract=off"]
LINK = ["-shared", "-Wl,--no-undefined"]
SIMULATION = ["graph.cpp", "machine.cpp", "session.cpp", "vertices.cpp"]


def find_compiler() -> Optional[str]:
    """The C++ compiler: `$CXX`, else g++ or clang++ on the path; None if there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    return None


def compile_cpp(arguments: Sequence[object]) -> None:
    """Run the C++ compiler; warnings are errors.

    Raises:
        RuntimeError: there is no compiler, or it refused; the message holds what it printed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("no C++ compiler: install g++ or set CXX to one")
    command = [compiler, *FLAGS, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")


def includes() -> List[str]:
    """Flags that find our headers, and our declarations of Poplar and PopART."""
    return [f"-I{folder}" for folder in [IPU, HOST, *STUBS]]


def operator_files() -> List[Path]:
    """Every C++ file of the operators that is no codelet; those in no folder are of all."""
    return [path for path in cpp_files() if not path.stem.endswith("_codelet")]


def codelet_files() -> List[Path]:
    """The codelets, one an operator."""
    return [path for path in cpp_files() if path.stem.endswith("_codelet")]


def cpp_files() -> List[Path]:
    found = [*IPU.glob("*.cpp"), *IPU.glob("*/*.cpp")]
    return sorted(path for path in found if path.parent != HOST)


def build_operator(
    name: str, folder: Path, codelets: Sequence[Path] = (), sources: Sequence[Path] = ()
) -> Path:
    """A library for `simulation.Simulation` and, for its vertices, `vertex.VertexLibrary`.

    The operator's files and its codelet are compiled unchanged; the codelet is copied beside the
    library, where the operator looks for it.

    Args:
        name: the operator's folder.
        folder: where the library and what it is made from go.
        codelets: more codelet files, whose vertices the library then has too.
        sources: more C++ files for the library.
    """
    codelet = IPU / name / f"{name}_codelet.cpp"
    shutil.copy(str(codelet), str(folder))
    files = [HOST / source for source in SIMULATION]
    files += [file for file in operator_files() if file.parent in (IPU, IPU / name)]
    files += sources
    for one in [codelet, *codelets]:
        files.append(folder / f"{one.stem}_glue.cpp")
        files[-1].write_text(glue_source(one))
    objects = [folder / f"{file.stem}.o" for file in files]

    def compile_one(file: Path, target: Path) -> None:
        compile_cpp([*OBJECT, *includes(), "-c", file, "-o", target])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, files, objects))
    library = folder / f"libpoplar_ops_{name}_simulated.so"
    compile_cpp([*LINK, *objects, "-ldl", "-o", library])
    return library
