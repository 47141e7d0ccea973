"""A YOLO dataset's yaml and lists of class names: what the numbers in its labels mean; the only
file of `data` that reads YAML.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import yaml

__all__ = ["YoloYaml", "class_names", "read_yaml"]

NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels")
FIRST = ("data", "dataset")  # of several yaml files in a folder
NOTHING: Tuple[Any, ...] = ("", [], "null", "~")  # the last two as texts: see `load`
SET = re.compile(r"(train|val|valid|validation|test|trainval|minival)[-_]?\d*")


class YoloYaml(NamedTuple):
    """What is used of it."""

    path: Path
    """The file."""
    base: Path
    """Folder that its paths begin at."""
    sets: Dict[str, List[str]]
    """`train`, `val`, ... -> folders and list files as written."""
    names: Dict[int, str]
    """By class number."""
    note: str
    """What was decided about it; may be empty."""

    def place(self, root: Path, name: str, text: str) -> Path:
        """Where a set's folder or list is. Exporters write `../train/images` for what lies beside
        the yaml, and whole paths of their own machine: of these the last parts, two or more, are
        looked for below the root.

        Raises:
            FileNotFoundError: nowhere; the message has what was tried.
        """
        text = text.replace("\\", "/")
        inner = text
        while inner.startswith("../"):
            inner = inner[3:]
        parts = Path(inner).parts
        ends = [root.joinpath(*parts[start:]) for start in range(1, len(parts) - 1)]
        tried = list(dict.fromkeys([self.base / text, root / text, root / inner, *ends]))
        for place in tried:
            if place.exists():
                return place
        raise FileNotFoundError(
            f"{self.path} says {name}: {text}, which is not there: tried"
            f" {', '.join(str(place) for place in tried)}"
        )


def read_yaml(root: Path) -> Optional[YoloYaml]:
    """The dataset's yaml: `data.yaml` or `dataset.yaml`, else the only one that has names; None
    where there is none.

    Raises:
        ValueError: several with names, not YAML, or names that are none.
    """
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    first = [path for stem in FIRST for path in files if path.stem == stem]
    read = [(path, load(path)) for path in first[:1] or files]
    found = [(path, content) for path, content in read if "names" in content]
    if len(found) > 1:
        listed = ", ".join(path.name for path, _ in found)
        raise ValueError(f"{root} has several yaml files with class names: {listed}; keep one")
    if not found:
        return None
    path, content = found[0]
    base, note = root, ""
    if content.get("path"):
        base = root / str(content["path"])
        if not base.is_dir():
            note = f"{path.name}: path {content['path']} is not there; {root} is taken for it"
            base = root
    sets = {
        str(key): [str(one) for one in (value if isinstance(value, list) else [value])]
        for key, value in content.items()
        if value not in NOTHING and isinstance(value, (str, list)) and SET.fullmatch(str(key))
    }
    if "kpt_shape" in content:
        raise ValueError(f"{path} has kpt_shape: labels of poses are not read, only boxes")
    return YoloYaml(path, base, sets, names_of(path, content), note)


def load(path: Path) -> Dict[str, Any]:
    """A file's keys; every value a text, a list or a dictionary: a class may be called `no`."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if path.stem not in FIRST:
            return {}  # of another program
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{path} is not YAML{line}: {str(error).splitlines()[0]}") from None
    return content if isinstance(content, dict) else {}


def names_of(path: Path, content: Dict[str, Any]) -> Dict[int, str]:
    """Names by number of a list or a dictionary."""
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if (
        not isinstance(names, dict)
        or not all(is_number(number) for number in names)
        or not all(isinstance(name, str) and name.strip() for name in names.values())
    ):
        raise ValueError(f"{path}: names must be a list, or a number and a name each, got {names}")
    table = {int(number): name.strip() for number, name in names.items()}
    count = str(content.get("nc", len(table)))
    if count != str(len(table)):
        raise ValueError(f"{path}: nc is {count}, but there are {len(table)} names")
    return table


def is_number(value: Any) -> bool:
    return str(value).isdecimal()


def class_names(root: Path, yaml: Optional[YoloYaml]) -> Optional[Dict[int, str]]:
    """Names by number, from the yaml or else from a file of a name per line; None without both.

    Raises:
        ValueError: files that disagree.
    """
    if yaml is not None:
        return yaml.names
    folders = [root, root / "labels", *sorted(root.glob("*/")), *sorted(root.glob("labels/*/"))]
    files = [folder / name for folder in folders for name in NAMES_FILES]
    found = {path: read_names(path) for path in files if path.is_file()}
    if not found:
        return None
    first = next(iter(found))
    for path, names in found.items():
        if names != found[first]:
            raise ValueError(f"{first} and {path} have different class names; keep one")
    return dict(enumerate(found[first]))


def read_names(path: Path) -> List[str]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]
