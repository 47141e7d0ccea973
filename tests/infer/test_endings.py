"""How `infer.py` ends before its last image, and what it leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from torch import Tensor

from data.formats import ImageDetections
from detectors.commands.infer.results import Results
from detectors.commands.infer.runner import Runner
from tests.infer.small_runs import Infer, images_of, plain


def test_out_of_memory_says_what_needs_less(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(self: Runner, images: Tensor) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 GB")

    monkeypatch.setattr(Runner, "__call__", exhausted)
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 1
    assert "out of memory" in result.err
    assert "--batch" in result.err
    assert plain(Path("out"))["complete"] is False
    assert "Traceback" in Path("out/run.log").read_text()


def test_a_full_disk_leaves_what_was_done(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3, lambda: fail(OSError(errno.ENOSPC, "No space left", "images/3.jpg")))
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 1
    assert "disk full writing images/3.jpg" in result.err
    assert [image.file for image in images_of(Path("out"))] == ["1.jpg", "2.jpg"]


def fail(error: BaseException) -> None:
    raise error


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], object]) -> None:
    """Do something while the `number`-th image is written."""
    add = Results.add
    seen: List[str] = []

    def counted(self: Results, image: ImageDetections) -> None:
        seen.append(image.file)
        if len(seen) == number:
            action()
        add(self, image)

    monkeypatch.setattr(Results, "add", counted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_valid_files_and_resume_does_the_rest(
    run: Infer,
    checkpoint: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    words = (checkpoint, photos, "--score", ".3", "--format", "json,csv", "--out", "out")
    with monkeypatch.context() as patch:
        stop_at(patch, 2, lambda: signal.raise_signal(number))
        stopped = run(*words)
    assert stopped.code == code
    assert "--resume" in stopped.out
    assert [image.file for image in images_of(Path("out"))] == ["1.jpg", "2.jpg"]
    assert plain(Path("out"))["complete"] is False

    calls: List[int] = []
    call = Runner.__call__

    def noted(self: Runner, images: Tensor) -> Any:
        calls.append(len(images))
        return call(self, images)

    monkeypatch.setattr(Runner, "__call__", noted)
    assert run(*words, "--resume").code == 0
    assert calls == [1, 1, 1]  # 3.jpg, 4.jpg, 5.jpg
    assert plain(Path("out"))["complete"] is True
    assert [image.file for image in images_of(Path("out"), "csv")] == [
        f"{n}.jpg" for n in range(1, 6)
    ]

    other = run(*words, "--resume", "--iou", ".4")
    assert other.code == 2
    assert "was made with iou_threshold 0.5, this command has 0.4" in other.err


def test_a_second_ctrl_c_stops_at_once_with_valid_files(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    stop_at(monkeypatch, 3, twice)
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 130
    assert [image.file for image in images_of(Path("out"))] == ["1.jpg", "2.jpg"]


def test_ctrl_c_in_a_terminal_ends_the_process_with_130(
    checkpoint: Path, photos: Path, repository: Path
) -> None:
    words = [
        "infer.py",
        str(checkpoint),
        str(photos),
        "--repeat",
        "100000",
        "--out",
        str(photos / "out"),
    ]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with ended(process):
        part = photos / "out" / "detections.json.part"
        for _ in range(600):
            if part.exists() and '"file": "5.jpg"' in part.read_text(encoding="utf-8"):
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert b"Traceback" not in output
    assert len(plain(photos / "out")["images"]) == 5


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process does not outlive a test that fails."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_fault_of_the_program_ends_with_one_and_a_log(
    run: Infer, checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 1, lambda: fail(KeyError("ours")))
    result = run(checkpoint, photos, "--out", "out")
    assert result.code == 1
    assert "error: KeyError: 'ours'" in result.err
    assert "Traceback" in Path("out/run.log").read_text()


@pytest.mark.slow
def test_memory_stays_flat_over_many_images(
    checkpoint: Path, repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("resource", reason="needs Unix's resource module")
    program = (
        "import resource, sys, infer\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "words = [sys.argv[1], '--quiet', '--score', '0.05', '--size', '64', '--no-images',"
        " '--format', 'json,coco,csv,voc,yolo']\n"
        "infer.main(words + ['--generated', '20', '--out', sys.argv[2] + '/a'])\n"
        "before = peak()\n"
        "infer.main(words + ['--generated', '220', '--out', sys.argv[2] + '/b'])\n"
        "print(peak() - before)\n"
    )
    words = [sys.executable, "-c", program, str(checkpoint), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        words, cwd=repository, capture_output=True, text=True, check=True, env=environment
    )
    assert float(result.stdout.splitlines()[-1]) < 60  # 200 images of 0.9 MB would be 180
