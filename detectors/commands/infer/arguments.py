"""What `infer.py` takes on its command line. Imports nothing of torch: `--help` answers at once."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path
from typing import List, NoReturn, Optional, Sequence, Tuple, Union

from detectors import model_name
from detectors.experiment.run_folder import refuse_taken

__all__ = ["FORMAT_NAMES", "Arguments", "looks_like_path", "parse"]

FORMAT_NAMES = ("json", "coco", "csv", "voc", "yolo")

EXAMPLES = """examples:
  python infer.py efficientdet-d2 images/
  python infer.py d0 photo.jpg --score .25 --format json,coco,csv --out out/photo
  find . -name '*.jpg' | python infer.py d0 -
  python infer.py d0 --generated 64 --random-weights --benchmark
  python infer.py faster_rcnn-r50_c4 images/ --weights model_final_b1acc2.pkl
  python infer.py runs/my_run/1/best.ckpt images/ --recursive

exit codes: 0 done, 1 failed, 2 wrong command, 130 Ctrl-C, 143 SIGTERM"""


class Arguments(argparse.Namespace):
    """The parsed command line; each field is explained in the help."""

    model: str
    paths: List[str]
    weights: Optional[Path]
    random_weights: bool
    num_classes: Optional[int]
    out: Optional[Path]
    overwrite: bool
    resume: bool
    format: List[str]
    images: bool
    score: float
    max: int
    iou: Optional[float]
    top_k: int
    multiclass: bool
    soft: str
    sigma: float
    nms: str
    classes: Optional[List[str]]
    black_padding: bool
    resample: Optional[str]
    size: Optional[Tuple[int, int]]
    recursive: bool
    limit: Optional[int]
    generated: Optional[int]
    repeat: Optional[int]
    strict: bool
    quiet: bool
    debug: bool
    device: str
    precision: Optional[str]
    batch: Union[int, str, None]
    threads: Union[int, str, None]
    config: Optional[str]
    set: List[str]
    benchmark: bool
    worst_case: bool
    compile_only: Optional[Path]
    executable: Optional[Path]


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that all mistakes look alike."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):
            message = "name a model and images: infer.py efficientdet-d2 images/; --help has more"
        raise ValueError(message)


def count(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def count_or_none(text: str) -> int:
    """An integer of at least 0."""
    return 0 if text == "0" else count(text)


def count_or_auto(text: str) -> Union[int, str]:
    """An integer of at least 1, or `auto`."""
    return text if text == "auto" else count(text)


def share(text: str) -> float:
    """A number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in 0..1, got '{text}'")
    return value


def positive(text: str) -> float:
    """A number over 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number over 0, got '{text}'")
    return value


def size(text: str) -> Tuple[int, int]:
    """`N` or `HxW`, pixels; returns (height, width)."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected N or HEIGHTxWIDTH in pixels, got '{text}'")
    return int(parts[0]), int(parts[-1])


def names(text: str) -> List[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def formats(text: str) -> List[str]:
    """Known formats between commas."""
    chosen = names(text)
    for name in chosen:
        if name not in FORMAT_NAMES:
            raise argparse.ArgumentTypeError(
                f"no format '{name}'; formats: {', '.join(FORMAT_NAMES)}"
            )
    return chosen


def build_parser() -> Parser:
    """The table of arguments."""
    parser = Parser(
        prog="infer.py",
        description="Find objects in images.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a name (efficientdet-d2, d2), a checkpoint, a run folder")
    add("paths", metavar="PATH", nargs="*", help="files, folders, globs, or - for paths on stdin")
    add(
        "--weights",
        metavar="F",
        type=Path,
        help="a checkpoint for MODEL, or a published one's name (automl_efficientdet_d2)",
    )
    add("--random-weights", action="store_true", help="no checkpoint: for tests and benchmarks")
    add(
        "--num-classes", metavar="N", type=count, help="class outputs of --weights (90; 20 for VOC)"
    )

    group = parser.add_argument_group("images").add_argument
    group("--recursive", action="store_true", help="look into sub-folders")
    group("--limit", metavar="N", type=count, help="stop after N images")
    group(
        "--generated", metavar="N", type=count, help="N pictures made on the spot, no files needed"
    )
    group("--repeat", metavar="N", type=count, help="go through the images N times (results once)")
    group("--strict", action="store_true", help="exit 1 if an image cannot be read")
    group("--size", metavar="N|HxW", type=size, help="network input in pixels (the model's own)")
    group("--black-padding", action="store_true", help="pad with black, not with the mean colour")
    group(
        "--resample", choices=("pil", "tf"), help="how images shrink (as the weights' origin does)"
    )

    group = parser.add_argument_group("detections").add_argument
    group("--score", metavar="S", type=share, default=0.4, help="keep scores over S (0.4)")
    group("--max", metavar="N", type=count, default=100, help="at most N per image (100)")
    group("--classes", metavar="A,B", type=names, help="keep only these classes")
    group("--iou", metavar="T", type=share, help="overlap that removes a box (0.5, or the model's)")
    group(
        "--top-k",
        metavar="K",
        type=count_or_none,
        default=5000,
        help="boxes for NMS, 0 = all (5000)",
    )
    group("--multiclass", action="store_true", help="every class of every box takes part in NMS")
    group(
        "--soft", choices=("hard", "gaussian"), default="hard", help="remove overlaps or lower them"
    )
    group("--sigma", type=positive, default=0.5, help="of --soft gaussian (0.5)")
    group(
        "--nms",
        choices=("device", "host", "none"),
        default="device",
        help="where NMS runs (device)",
    )

    group = parser.add_argument_group("results").add_argument
    group("--out", metavar="DIR", type=Path, help="instead of runs/infer/MODEL/NUMBER")
    group("--overwrite", action="store_true", help="write into --out although it has files")
    group("--resume", action="store_true", help="go on in --out where a run was stopped")
    group(
        "--format",
        metavar="A,B",
        type=formats,
        default=["json"],
        help=f"{','.join(FORMAT_NAMES)} (json); coco's category_id is the weights' data's own where"
        " they say it, else label + 1",
    )
    group("--no-images", dest="images", action="store_false", help="draw nothing")
    group("--quiet", action="store_true", help="errors and the last line only")
    group("--debug", action="store_true", help="show tracebacks")

    group = parser.add_argument_group("execution").add_argument
    group("--device", choices=("auto", "cpu", "cuda", "ipu"), default="auto", help="(auto)")
    group("--precision", choices=("fp32", "half", "bf16"), help="(fp32; half on the IPU)")
    group(
        "--batch", metavar="N|auto", type=count_or_auto, help="images per step (1, or --config's)"
    )
    group(
        "--threads",
        metavar="N|auto",
        type=count_or_auto,
        help="CPU threads; auto measures (torch's)",
    )
    group(
        "--config", metavar="C", help="throughput, low-latency, or a YAML file: the IPU's settings"
    )
    group(
        "--set",
        metavar="K=V",
        action="append",
        default=[],
        help="change one of --config's settings",
    )
    group("--compile-only", metavar="FILE", type=Path, help="save the executable and stop")
    group("--executable", metavar="FILE", type=Path, help="run the executable of --compile-only")
    group("--benchmark", action="store_true", help="measure; writes benchmark.json only")
    group("--worst-case", action="store_true", help="benchmark where NMS runs all of its rounds")
    return parser


def parse(arguments: Optional[Sequence[str]] = None) -> Arguments:
    """Read the command line.

    Args:
        arguments: words after the program's name; the process's own if None.

    Raises:
        ValueError: something is unknown, missing or contradicts itself; the message says what would
            do.
        SystemExit: after `--help`.
    """
    parser = build_parser()
    parsed, unknown = parser.parse_known_intermixed_args(arguments, Arguments())
    for word in unknown:
        options = [option for action in parser._actions for option in action.option_strings]
        near = difflib.get_close_matches(word.partition("=")[0], options, n=2)
        hint = (
            f"; did you mean {' or '.join(near)}?" if near else "; infer.py --help lists them all"
        )
        raise ValueError(f"no option '{word}'{hint}")
    check(parsed)
    return parsed


def looks_like_path(text: str) -> bool:
    """A checkpoint or run folder rather than a model's name."""
    suffixes = (".pt", ".pth", ".ckpt", ".safetensors", ".tar.gz", ".tgz", ".index")
    return os.sep in text or text.endswith(suffixes) or Path(text).exists()


def check(parsed: Arguments) -> None:
    """Refuse what contradicts itself, and a model that does not exist."""
    if not looks_like_path(parsed.model):
        model_name(parsed.model)
    images = parsed.paths or parsed.generated is not None
    rules = [
        (
            looks_like_path(parsed.model) and not images and parsed.compile_only is None,
            f"{parsed.model} stands where the model does: infer.py efficientdet-d2 {parsed.model}",
        ),
        (
            bool(parsed.paths) == (parsed.generated is not None)
            and (bool(parsed.paths) or parsed.compile_only is None),
            "name images (files, folders, globs, -) or give --generated N, and not both",
        ),
        (
            parsed.weights is not None and parsed.random_weights,
            "--weights and --random-weights exclude each other",
        ),
        (
            parsed.compile_only is not None and parsed.executable is not None,
            "--compile-only makes the file that --executable runs: give one of them",
        ),
        (
            parsed.batch == "auto" and bool(parsed.compile_only or parsed.executable),
            "--batch auto compiles to measure: give --compile-only and --executable a number",
        ),
        (parsed.worst_case and not parsed.benchmark, "--worst-case belongs to --benchmark"),
        (
            parsed.worst_case and (parsed.nms == "none" or parsed.soft != "hard"),
            "--worst-case measures hard NMS: leave --nms none and --soft gaussian out",
        ),
        (bool(parsed.set) and parsed.config is None, "--set changes a --config: name one"),
        (
            parsed.resume and (parsed.out is None or "json" not in parsed.format),
            "--resume needs --out DIR and the json format of the run that was stopped",
        ),
        (parsed.resume and parsed.overwrite, "--resume and --overwrite exclude each other"),
        (parsed.iou == 0, "--iou must be over 0"),
    ]
    for broken, message in rules:
        if broken:
            raise ValueError(message)
    if parsed.out is not None:  # before weights are fetched or anything is measured
        refuse_taken(parsed.out, overwrite=parsed.overwrite or parsed.resume)
