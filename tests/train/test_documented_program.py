"""The training program of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1


@pytest.mark.filterwarnings("ignore")  # of Lightning's, about this machine
def test_the_documented_program_trains_with_a_plain_trainer(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: Dict[str, Any] = {}
    exec(program, names)
    assert names["trainer"].global_step == 1
