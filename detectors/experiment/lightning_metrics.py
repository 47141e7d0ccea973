"""`metrics.csv` of a run folder; steps are updates of the weights."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from lightning.pytorch.loggers import Logger

from detectors.experiment.atomic import FULL, DiskFullError, write_whole

__all__ = ["MetricsCSV", "read_metrics"]

LIGHTNINGS_OWN = ("step", "epoch")
"""Columns that Lightning adds; its epoch is the whole run."""


class MetricsCSV(Logger):
    """One row per step that something is logged at, on the disk as soon as it is logged.

    A column that is new makes the file anew; values that come later for the same step, an
    evaluation's for instance, complete its row. Numbers are written so that they read back exactly.

    Args:
        folder: of the run; the file is `metrics.csv` in it.
        resume_step: the step that a resumed run goes on from: rows of later steps are cut. None for
            a new run, which must not have a file.
    """

    def __init__(self, folder: Path, *, resume_step: Optional[int] = None) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._columns: List[str] = ["step"]
        self._row: Dict[str, str] = {}
        self._offset = 0
        if resume_step is not None:
            self._keep_until(resume_step)
        elif self.path.exists():
            raise FileExistsError(f"{self.path} is of another run; take a new folder, or resume")

    @property
    def name(self) -> str:
        """Of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Lightning asks; a run folder is its own version."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_metrics(self, metrics: Dict[str, float], step: Optional[int] = None) -> None:
        """Write a row, or complete the last one."""
        values = {
            key: repr(float(value)) for key, value in metrics.items() if key not in LIGHTNINGS_OWN
        }
        if not values or step is None:
            return
        row = {"step": str(int(step)), **values}  # 2.3 gives a float
        same = self._row.get("step") == row["step"]
        if same:
            row = {**self._row, **values}
        try:
            self._write(row, same)
        except OSError as error:
            if error.errno not in FULL or isinstance(error, DiskFullError):
                raise
            raise DiskFullError(f"disk full writing {self.path.name}") from error

    def log_hyperparams(
        self, params: Union[Dict[str, Any], Namespace], *args: Any, **kwargs: Any
    ) -> None:
        """`config.yaml` has them."""

    def _write(self, row: Dict[str, str], same: bool) -> None:
        new = [key for key in row if key not in self._columns]
        if new or not self.path.exists():
            rows = read_metrics(self.path)
            self._columns += new
            self._write_all([*(rows[:-1] if same else rows), row])
            return
        line = csv_text(self._columns, [row])
        with open(self.path, "rb+") as file:
            start = file.seek(self._offset) if same else file.seek(0, io.SEEK_END)
            file.write(line)
            file.truncate()
        self._row, self._offset = row, start

    def _write_all(self, rows: Sequence[Dict[str, str]]) -> None:
        head = csv_text(self._columns, [dict(zip(self._columns, self._columns))])
        body = [csv_text(self._columns, [row]) for row in rows]
        write_whole(self.path, b"".join([head, *body]))
        self._row = dict(rows[-1]) if rows else {}
        self._offset = sum(map(len, [head, *body[:-1]]))

    def _keep_until(self, step: int) -> None:
        rows = [row for row in read_metrics(self.path) if int(row["step"]) <= step]
        for row in rows:
            self._columns += [key for key in row if key not in self._columns]
        if self.path.exists():
            self._write_all(rows)


def csv_text(columns: Sequence[str], rows: Sequence[Dict[str, str]]) -> bytes:
    """Lines of a CSV file, empty where a row has no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    return text.getvalue().encode()


def read_metrics(path: Path) -> List[Dict[str, str]]:
    """The rows of a `metrics.csv`, each with the values it has; a line that a crash cut is left
    out, and a file that is not there has none.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    head = lines[0] if lines else []
    whole = [line for line in lines[1:] if len(line) == len(head)]
    return [{key: value for key, value in zip(head, line) if value} for line in whole]
