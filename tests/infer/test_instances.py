"""`torchrun --nproc-per-node N infer.py`: the images are split, the results are one run's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import pytest

from data.formats import FORMATS
from tests.infer.small_runs import Infer, plain
from tests.rank_variables import rank_variables

Ended = Tuple[int, str, str]  # exit code, stdout, stderr
Launch = Callable[..., List[Ended]]

PROGRAM = """
import os, sys
import infer
from detectors.commands.infer.runner import Runner
{}
sys.exit(infer.main(sys.argv[1:]))
"""
FAILS = """
def fails(self, images):
    raise RuntimeError("this device broke")
if os.environ["RANK"] == "1":
    Runner.__call__ = fails
"""
STOPS = """
import signal
call = Runner.__call__
def stops(self, images):
    signal.raise_signal(signal.SIGTERM)
    return call(self, images)
if os.environ["RANK"] == "1":
    Runner.__call__ = stops
"""


@pytest.fixture
def launch(repository: Path, tmp_path: Path) -> Launch:
    """Start processes as torchrun does, wait for all; the second may be made to misbehave."""

    def start(size: int, words: Sequence[object], misbehaviour: str = "") -> List[Ended]:
        command = [sys.executable, "-c", PROGRAM.format(misbehaviour), *map(str, words)]
        pipes: Dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started = []
        for variables in rank_variables(size):
            environment = {**variables, "PYTHONPATH": str(repository)}
            started.append(
                subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)
            )
        try:
            texts = [process.communicate(timeout=120) for process in started]
        finally:
            for process in started:
                process.kill()
        return [(process.returncode, *text) for process, text in zip(started, texts)]

    return start


def contents(folder: Path) -> Dict[str, bytes]:
    """Every file of a run but its log."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.log"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_three_instances_under_torchrun_write_what_one_process_writes(
    run: Infer, checkpoint: Path, photos: Path, repository: Path, tmp_path: Path
) -> None:
    (photos / "2b.jpg").write_text("this is no picture")
    words = [checkpoint, photos, "--score", ".3", "--format", ",".join(FORMATS), "--threads", 1]
    assert run(*words, "--out", "one").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [
        *torchrun,
        "--nproc-per-node",
        "3",
        repository / "infer.py",
        *words,
        "--out",
        "three",
    ]
    ended = subprocess.run(
        list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    expected = contents(Path("one"))
    assert {"detections.json", "coco.json", "images/5.jpg"} <= set(expected)
    assert contents(Path("three")) == expected
    assert [image["file"] for image in plain(Path("three"))["images"]] == [
        f"{number}.jpg" for number in range(1, 6)
    ]
    for line in ("1 image could not be read:", "three: detections.json"):
        assert ended.stdout.count(line) == 1
    assert "3 instances" in ended.stdout.splitlines()[0]


def test_a_benchmark_of_two_instances_sums_throughput_and_takes_the_slower_time(
    launch: Launch, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    words = (checkpoint, photos, "--benchmark", "--repeat", 2, "--out", "out")
    (code, out, _), other = launch(2, words)
    assert (code, other[0], other[1]) == (0, 0, "")
    values = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert values["instances"] == 2
    assert values["calls"] == 2 * 9  # each goes through all of ten, and the first warms up
    assert values["throughput"] == pytest.approx(sum(values["throughput_of_each"]))
    slower = min(values["throughput_of_each"])
    assert 1 / values["per_batch"]["mean"] == pytest.approx(slower)
    assert f"throughput: {values['throughput']:.2f} samples/sec," in out
    assert "2 instances: throughput is summed, times are the slowest one's" in out


def test_an_error_of_one_instance_ends_all_with_its_words(
    launch: Launch, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    words = (checkpoint, photos, "--out", "out", "--no-images")
    first, second = launch(2, words, FAILS)
    assert (first[0], second[0]) == (1, 1)
    assert (
        first[2] + second[2] == "rank 1: error: this device broke\n"
    )  # the first's, if it is quick
    assert second[1] == ""
    assert plain(tmp_path / "out")["complete"] is False
    log = (tmp_path / "out" / "run.log").read_text()
    assert "in detect_batch" in log  # where it was
    assert "RuntimeError: this device broke" in log


def test_a_signal_to_one_instance_stops_all_and_resume_goes_on(
    launch: Launch, run: Infer, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    words = (checkpoint, photos, "--out", "out", "--no-images")
    first, second = launch(2, words, STOPS)
    assert (first[0], second[0]) == (143, 143)
    assert "and --resume goes on from there" in first[1]
    assert [image["file"] for image in plain(tmp_path / "out")["images"]] == ["1.jpg", "2.jpg"]
    assert run(*words, "--resume").code == 0
    names = [image["file"] for image in plain(tmp_path / "out")["images"]]
    assert names == [f"{number}.jpg" for number in range(1, 6)]


def test_a_wrong_command_is_answered_once(launch: Launch, photos: Path) -> None:
    first, second = launch(2, ("efficientdet-d9", photos))
    assert (first[0], second[0]) == (2, 2)
    assert "did you mean" in first[2]
    assert second[2] == ""


def test_more_instances_than_images_leave_some_without_work(
    launch: Launch, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    ended = launch(2, (checkpoint, photos / "1.jpg", "--out", "out", "--no-images", "--quiet"))
    assert [(code, err) for code, _, err in ended] == [(0, "")] * 2
    assert ended[0][1] == "out: detections.json\n"
    assert [image["file"] for image in plain(tmp_path / "out")["images"]] == ["1.jpg"]
