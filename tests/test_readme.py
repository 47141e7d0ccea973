"""What the README tells a person to type works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest
from PIL import Image

from detectors.commands.train.arguments import parse

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
# commands stand in `sh` blocks and, quoted, in tables
QUOTED = re.compile(r"^(python .*)$|`((?:find|python) [^`]*)`", flags=re.MULTILINE)
COMMANDS: List[str] = [(line or cell).replace(r"\|", "|") for line, cell in QUOTED.findall(README)]

Run = Callable[[List[str]], "subprocess.CompletedProcess[str]"]  # quoted for Python 3.8


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Run:
    """Run this Python in an empty folder that has `images/`, `photo.jpg` and no cached weights."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    for name in ("photo.jpg", "images/one.jpg", "images/more/two.jpg"):
        Image.new("RGB", (64, 48), "grey").save(tmp_path / name)
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "DETECTORS_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def run(words: List[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_readme_starts_with_exactly_two_commands() -> None:
    first = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)[0]
    assert first.split("\n") == ["./dev demo", "./dev test", ""]


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_readme_programs_run(program: str, run: Run) -> None:
    result = run(["-c", program])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "train.py" in c])
def test_readme_training_commands_are_understood(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # What they do then is tests/train's: here, that recipes and settings exist.
    words = shlex.split(command)[2:]
    recipe = None if words == ["--recipes"] else next(w for w in words if w.startswith("recipe="))
    with pytest.raises(SystemExit) as ended:
        parse(words if recipe is None or "--cfg" in words else [*words, "--cfg"])
    assert ended.value.code == 0
    assert (recipe or "recipe=generated").partition("=")[2] in capsys.readouterr().out


@pytest.mark.parametrize("command", [c for c in COMMANDS if "infer.py" in c])
def test_readme_inference_commands_are_understood(command: str, repository: Path, run: Run) -> None:
    # With random weights at a small size: the commands' own weights cannot be fetched in a test.
    words = shlex.split(command.split("|")[-1].strip())[1:]
    if "-" in words:
        words[words.index("-")] = "photo.jpg"
    words = [str(repository / "infer.py") if word == "infer.py" else word for word in words]
    if "--weights" in words:
        del words[words.index("--weights") : words.index("--weights") + 2]
    # Nor has anybody trained here; the smallest Faster R-CNN stands for the larger ones.
    words = ["r18_c4" if word.endswith((".ckpt", "r50_c4")) else word for word in words]
    words += ["--size", "128", "--out", "out/run"]
    words += [] if "--random-weights" in words else ["--random-weights"]
    result = run(words)
    assert result.returncode == 0, result.stderr


def test_readme_names_documents_that_exist(repository: Path) -> None:
    named = set(re.findall(r"`(docs/[a-z_]+\.md)`", README))
    assert named
    assert [name for name in sorted(named) if not (repository / name).exists()] == []
