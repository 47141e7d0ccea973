"""Imports point one way (docs/architecture.md, section "Import directions")."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("poptorch_host", "poplar_ops", "detectors", "data")

# package -> packages of ours that it may import
ALLOWED: Dict[str, Set[str]] = {
    "poptorch_host": set(),
    "poplar_ops": {"poptorch_host"},
    "data": set(),
    "detectors": {"poplar_ops"},
    "detectors/experiment": {"poplar_ops", "detectors"},
    "detectors/commands": {"poplar_ops", "detectors", "data"},
}

# library -> the only places that may import it, in folders or files
ONE_PLACE: Dict[str, Tuple[str, ...]] = {
    "poptorch": ("poplar_ops/runtime.py", "examples"),
    "popdist": ("examples",),
    "omegaconf": ("detectors/experiment/structured.py",),
    "rich": ("detectors/experiment/console.py",),
    "safetensors": ("detectors/weights/tensor_file.py",),
    "timm": ("detectors/backbones/timm_features.py",),
    "yaml": ("data/yolo_yaml.py", "detectors/experiment/structured.py"),
    "pycocotools": ("data/evaluation/coco.py",),
    "faster_coco_eval": ("data/evaluation/coco.py",),
    "albumentations": ("data/albumentations.py",),
    "lightning": ("detectors/experiment", "data/datamodule.py", "train.py"),
}

# modules and rooms of poptorch_host, each after all that it imports; others stand above them
ROOMS = (
    *("version", "enums", "errors", "environment", "settings", "_logging", "provenance", "popart"),
    *("_state", "blocks", "options", "checks", "tensors", "custom_ops", "ops", "capture", "graph"),
    *("optim", "engine", "executable", "heartbeat", "ranks", "executor", "loader", "popdist"),
    "horovod",
)

# what each package may import at all, beyond the standard library and itself
THIRD_PARTY: Dict[str, Set[str]] = {
    "poptorch_host": {"torch", "torch_geometric"},  # torch_geometric: only if the user has it
    "data": {
        "torch",
        "numpy",
        "PIL",
        "yaml",
        "pycocotools",
        "faster_coco_eval",
        "albumentations",
        "lightning",
    },
}

HEAVY = (
    "lightning",
    "albumentations",
    "pycocotools",
    "faster_coco_eval",
    "timm",
    "torchvision",
    "cv2",
    "matplotlib",
    "omegaconf",
)


def sources(folder: str) -> List[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    """The absolute names that a file imports, at the top or inside functions."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            yield ".".join(part for part in (base, node.module) if part)


def home(path: Path) -> str:
    """The entry of ALLOWED that a file lives in: the longest that fits."""
    relative = path.relative_to(ROOT).as_posix()
    return max((key for key in ALLOWED if relative.startswith(key + "/")), key=len)


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_what_lies_before_them(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported_modules(path)
        if name.split(".")[0] in OURS
        and name.split(".")[0] != package
        and name.split(".")[0] not in ALLOWED[home(path)]
    ]
    assert wrong == []


def test_rooms_of_poptorch_host_import_only_rooms_before_them() -> None:
    place = {name: index for index, name in enumerate(ROOMS)}
    folders = {path.parent.name for path in (ROOT / "poptorch_host").glob("*/__init__.py")}
    assert sorted(folders - set(place)) == ["shims"]  # copies of other processes' imports
    wrong = []
    for path in sources("poptorch_host"):
        here = path.relative_to(ROOT / "poptorch_host").with_suffix("").parts[0]
        wrong += [
            f"{path.relative_to(ROOT)} imports {name}"
            for name in rooms_imported(path)
            if place.get(name, len(place)) > place.get(here, len(place))
        ]
    assert wrong == []


def rooms_imported(path: Path) -> Iterator[str]:
    """Rooms and modules of poptorch_host that a file imports; imports of types do not count."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    types = [
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and getattr(test.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(test)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in types:
            parts = [*package[1 : len(package) - node.level + 1], *(node.module or "").split(".")]
            yield from {parts[0]} if parts[0] else {alias.name for alias in node.names}


def test_detectors_core_knows_no_experiment_and_no_command() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("detectors")
        if home(path) == "detectors" and path.name != "__main__.py"
        for name in imported_modules(path)
        if name.startswith(("detectors.commands", "detectors.experiment"))
    ]
    assert wrong == []


def test_the_two_models_never_meet() -> None:
    pairs = (("efficientdet", "faster_rcnn"), ("faster_rcnn", "efficientdet"))
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for one, other in pairs
        for path in sources(f"detectors/models/{one}")
        for name in imported_modules(path)
        if other in name
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONE_PLACE)
def test_each_library_is_imported_in_one_place(library: str) -> None:
    files = [path for package in OURS for path in sources(package)]
    files += [ROOT / "train.py", ROOT / "infer.py", *sources("examples")]
    wrong = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.exists()
        and any(name.split(".")[0] == library for name in imported_modules(path))
        and not path.relative_to(ROOT).as_posix().startswith(ONE_PLACE[library])
    ]
    assert wrong == []


def test_examples_are_poptorch_programs_and_know_nothing_of_ours() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("examples")
        for name in imported_modules(path)
        if name.split(".")[0] in OURS
    ]
    assert wrong == []


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_separate_packages_need_little(package: str) -> None:
    standard = set(getattr(sys, "stdlib_module_names", ())) | {"__future__"}
    if not standard - {"__future__"}:
        pytest.skip("the list of standard modules needs Python 3.10")
    allowed = standard | THIRD_PARTY[package] | {package}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported_modules(path)
        if name.split(".")[0] not in allowed
    ]
    assert wrong == []


def loaded_by(statement: str, names: Sequence[str]) -> str:
    """Those of `names` that a fresh interpreter has loaded after a statement, as a list's text."""
    program = f"{statement}; import sys; print([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_detectors_loads_neither_torch_nor_a_heavy_library() -> None:
    assert loaded_by("import detectors", ("torch", *HEAVY)) == "[]"


def test_what_a_model_is_built_from_loads_no_heavy_library() -> None:
    modules = "detectors.models.efficientdet.inference, detectors.splits"
    assert loaded_by(f"import {modules}", HEAVY) == "[]"


def test_importing_ours_leaves_the_name_poptorch_alone() -> None:
    assert loaded_by("import detectors.splits, poptorch_host", ("poptorch",)) == "[]"
