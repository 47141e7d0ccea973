"""The command line: what it takes, and how it refuses the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from detectors.commands.infer.arguments import FORMAT_NAMES, parse


def words(text: str) -> List[str]:
    return text.split()


@pytest.mark.parametrize("name", ["efficientdet-d2", "efficientdet_d2", "EfficientDet-D2", "d2"])
def test_every_spelling_of_a_model_is_taken(name: str) -> None:
    assert parse([name, "images"]).model == name


def test_a_wrong_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no model 'efficientdet-d9'.*efficientdet-d\d"):
        parse(words("efficientdet-d9 images"))


def test_a_wrong_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no option '--scor'; did you mean --score"):
        parse(words("d0 images --scor .3"))


def test_options_and_paths_may_alternate() -> None:
    args = parse(words("d0 a --nms host b - --score .25"))
    assert args.paths == ["a", "b", "-"]
    assert args.nms == "host"
    assert args.score == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--score abc", "--score: expected a number in 0..1, got 'abc'"),
        ("--score 1.5", "--score: expected a number in 0..1, got '1.5'"),
        ("--batch 0", "--batch: expected a whole number of at least 1, got '0'"),
        ("--batch many", "--batch: expected"),
        ("--max -3", "--max: expected"),
        ("--size 12y4", "--size: expected N or HEIGHTxWIDTH in pixels, got '12y4'"),
        ("--sigma 0", "--sigma: expected a number over 0"),
        ("--format json,xml", "no format 'xml'; formats: json, coco, csv, voc, yolo"),
        ("--nms gpu", "--nms: invalid choice"),
        ("--weights a --random-weights", "exclude each other"),
        ("--worst-case", "--worst-case belongs to --benchmark"),
        ("--set io_tiles=32", "--set changes a --config"),
        ("--resume", "--resume needs --out"),
        ("--generated 3", "and not both"),
        ("--compile-only a --executable b", "give one of them"),
        ("--executable b --batch auto", "--batch auto compiles to measure"),
    ],
)
def test_a_wrong_value_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is checked below
        parse(["d0", "images", *words(text)])
    assert message in str(caught.value)


def test_no_images_are_a_mistake_unless_the_model_is_only_compiled() -> None:
    with pytest.raises(ValueError, match="name images"):
        parse(["d0"])
    assert parse(words("d0 --compile-only d0.poptorch")).paths == []


def test_no_words_are_answered_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"name a model and images: infer\.py efficientdet-d2 "):
        parse([])


def test_a_taken_output_folder_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="has files in it"):
        parse(["d0", "a", "--benchmark", "--out", str(tmp_path)])
    assert parse(["d0", "a", "--overwrite", "--out", str(tmp_path)]).overwrite


def test_sizes_are_height_and_width() -> None:
    assert parse(words("d0 a --size 256")).size == (256, 256)
    assert parse(words("d0 a --size 256x384")).size == (256, 384)


def test_automatic_numbers_stay_words() -> None:
    args = parse(words("d0 a --batch auto --threads 3"))
    assert args.batch == "auto"
    assert args.threads == 3


def test_formats_are_those_that_can_be_written() -> None:
    formats = pytest.importorskip("data.formats")
    assert tuple(formats.FORMATS) == FORMAT_NAMES


def test_help_and_mistakes_come_without_torch(repository: Path) -> None:
    program = (
        "import sys, infer\n"
        "assert infer.main(['--help']) == 0\n"
        "assert infer.main(['d9', 'x']) == 2\n"
        "print('torch' in sys.modules, 'PIL' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "False False"
    assert "exit codes: 0 done, 1 failed, 2 wrong command, 130 Ctrl-C, 143 SIGTERM" in result.stdout
