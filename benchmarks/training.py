"""Training EfficientDet beside effdet: what both have learnt after the same steps on the same
batches, and how long a step takes.

    python benchmarks/training.py accuracy data.root=DIR [recipe=bccd_d0] [--seeds 0,1] [--steps N]
    python benchmarks/training.py compare data.root=DIR [--ours runs/bccd_d0/1]
    python benchmarks/training.py speed [recipe=bccd_d0] [--rounds N]

`accuracy` trains the contenders of training_contenders.py one after the other, each in
`--out`/NAME-SEED with its detections, and goes on where it was stopped; `--only NAME` trains one of
them. `compare` scores what is there: VOC07 AP at IoU 0.5 with 95 % intervals over the pictures to
evaluate on, ours - effdet on the same pictures, and how often ours is the score of a detector that
learnt biases only. `--ours` takes finished runs of train.py in place of ours, one for each seed: of
the same recipe and data, or they are refused. `speed` takes turns, one step each, on the same
generated pictures: ours as train.py runs it, then both in plain loops of torch, as they come and in
channels-last memory. Ratios are to the first; over 1 means that train.py is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Dict, List, Tuple

from contenders import started

if TYPE_CHECKING:  # at run time torch waits until threads are calm
    from data.evaluation.found import Found
    from data.evaluation.intervals import Interval
    from detectors.commands.evaluate.judge import Judge
    from detectors.commands.train.datasets import Datasets
    from detectors.experiment.recipe import Recipe

NAMES = ("ours", "effdet", "biases")
TIMED = (
    "ours trainingModel",  # what train.py runs
    "ours",
    "ours channels-last",
    "effdet",
    "effdet channels-last",
)
METRIC = "AP50_voc07"
NMS = "hard"  # of all contenders' detections
ABOUT = "scores.json"  # written last, so it marks a finished contender
CHECKPOINT = "training.ckpt"


def main() -> int:
    """Run with the process's command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("accuracy", "compare", "speed"))
    parser.add_argument("words", nargs="*", metavar="key=value", help="recipe=NAME and settings")
    parser.add_argument("--seeds", type=numbers, default=[0], help="0,1,2: a training for each")
    parser.add_argument("--steps", type=int, help="updates of the weights; the recipe's otherwise")
    parser.add_argument("--only", choices=NAMES, help="train this one, and compare nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder to fill")
    parser.add_argument("--ours", type=Path, action="append", help="a finished run of train.py")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each")
    parser.add_argument("--json", metavar="FILE", help="write results as JSON; - is stdout")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--serve", choices=TIMED, help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    from detectors.commands.screen import guarded

    return guarded(lambda: run(options), debug=options.debug)


def run(options: argparse.Namespace) -> int:
    """One task; returns the exit code."""
    from detectors.commands.infer.device import calm_threads

    calm_threads()  # before anything imports torch
    if options.serve:
        serve(options)
        return 0
    if options.ours and len(options.ours) != len(options.seeds):
        raise ValueError(
            f"--ours is given {len(options.ours)} times, for {len(options.seeds)} --seeds"
        )
    if options.task == "speed":
        tell(speed(options), options.json)
        return 0
    if options.task == "accuracy":
        for seed in options.seeds:
            for name in [options.only] if options.only else wanted(options):
                train_one(name, seed, options)
    if options.task == "compare" or not options.only:
        tell(compare(options), options.json)
    return 0


def wanted(options: argparse.Namespace) -> List[str]:
    """The contenders that have to be trained."""
    return [name for name in NAMES if not (name == "ours" and options.ours)]


# ---- accuracy ------------------------------------------------------------------------------------


def train_one(name: str, seed: int, options: argparse.Namespace) -> None:
    """Train a contender, unless it is finished; writes its detections and how long it took."""
    from training_contenders import CONTENDERS, require_comparable
    from training_loop import Loop, detect

    from detectors.commands.train.plan import seed_everything

    recipe, device = recipe_of(options, seed), device_of(options)
    require_comparable(recipe)
    folder = folder_of(name, seed, options)
    if (folder / ABOUT).exists():
        print(f"{folder} is finished", file=sys.stderr)
        return
    datasets, judge = data_of(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    seed_everything(recipe)
    contender = CONTENDERS[name](recipe, datasets.class_names)
    for line in contender.differences:
        print(f"{name}: {line}", file=sys.stderr)
    loop = Loop(contender, recipe, device)
    loop.run(datasets, f"{name} seed {seed}", folder / CHECKPOINT, options.save_every)
    detect(contender.model, datasets, recipe, judge, device, loop.step)
    images = loop.step * recipe.images_per_step
    about = {
        "contender": name,
        "recipe": recipe.name,
        "seed": seed,
        "settings": settings_of(recipe),
        "seconds": round(loop.seconds, 1),
        "images_per_second": round(images / loop.seconds, 3),
        "machine": machine(device),
        "differences": list(contender.differences),
    }
    judge.write(folder, judge.score(), about)


def compare(options: argparse.Namespace) -> Dict[str, Any]:
    """Score what every contender found."""
    found: List[Dict[str, Any]] = [compare_seed(seed, options) for seed in options.seeds]
    recipe = recipe_of(options, options.seeds[0])
    return {
        "recipe": recipe.name,
        "steps": recipe.trainer.max_steps,
        "images_per_step": recipe.images_per_step,
        "seeds": found,
    }


def compare_seed(seed: int, options: argparse.Namespace) -> Dict[str, Any]:
    """The contenders of one seed: scores, the difference and the ratio."""
    from data.evaluation import scores

    recipe = recipe_of(options, seed)
    _, judge = data_of(recipe)
    folders = {name: folder_of(name, seed, options) for name in NAMES}
    require_same_settings(recipe, judge, folders, seed, options)
    found = {name: found_in(folder, judge) for name, folder in folders.items()}
    count = recipe.evaluate.resamples
    judged = {
        name: scores.evaluate(judge.annotations, one, ["voc07"], resamples=count)
        for name, one in found.items()
    }
    values = {name: one.values[METRIC] for name, one in judged.items()}
    pair = (found["ours"], found["effdet"])
    difference = scores.compare(judge.annotations, *pair, ["voc07"], resamples=count)
    floor = values["biases"].value
    return {
        "seed": seed,
        "images": len(judge.annotations),
        "classes": {
            name: {row.name: row.values[METRIC].value for row in one.classes}
            for name, one in judged.items()
        },
        METRIC: {name: as_list(interval) for name, interval in values.items()},
        "ours_minus_effdet": as_list(difference[METRIC]),
        "ours_over_biases": values["ours"].value / floor if floor > 0 else None,
        "about": {name: about_of(folder) for name, folder in folders.items()},
    }


def require_same_settings(
    recipe: Recipe,
    judge: Judge,
    folders: Dict[str, Path],
    seed: int,
    options: argparse.Namespace,
) -> None:
    """Refuse contenders that are missing, or were trained otherwise or on other data.

    Raises:
        FileNotFoundError, ValueError: says which, and what would do.
    """
    from detectors.experiment.recipe import load_recipe, resolve

    for name, folder in folders.items():
        if not (folder / ABOUT).is_file():
            raise FileNotFoundError(
                f"{name} has not been trained: no {folder / ABOUT}; run accuracy --only {name}"
            )
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if name == "ours" and options.ours:
            theirs = settings_of(resolve(load_recipe(folder)))
        else:
            theirs = about["settings"]
        ours = settings_of(recipe)
        other = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if other:
            listed = ", ".join(f"{key}={theirs.get(key)} ({ours.get(key)})" for key in other[:5])
            raise ValueError(f"{name} at {folder} was trained otherwise: {listed}")
        if about.get("nms", NMS) != NMS:
            raise ValueError(
                f"{name} at {folder} was scored with {about['nms']} NMS, the others with {NMS}:"
                f" give a run whose evaluate.nms begins with {NMS}"
            )
        if about.get("data_fingerprint") != judge.fingerprint():
            raise ValueError(f"{name} at {folder} was evaluated on other data than these")


def settings_of(recipe: Recipe) -> Dict[str, str]:
    """What decides on the result, in plain words by key: all but where, how often and how long."""
    from detectors.experiment.recipe_changes import OF_A_COMMAND, SAFE
    from detectors.experiment.structured import flat

    left_out = (*OF_A_COMMAND, *SAFE, "data.root", "data.workers", "ipu.", "pipeline.")
    return {key: str(value) for key, value in flat(recipe).items() if not key.startswith(left_out)}


def recipe_of(options: argparse.Namespace, seed: int) -> Recipe:
    """The resolved recipe of a seed."""
    from detectors.experiment.recipe import load_recipe, resolve

    names = [word.partition("=")[2] for word in options.words if word.startswith("recipe=")]
    words = [word for word in options.words if not word.startswith("recipe=")]
    words.append(f"seed={seed}")
    if options.steps is not None:
        words.append(f"trainer.max_steps={options.steps}")
    return resolve(load_recipe(names[-1] if names else "bccd_d0", words))


def data_of(recipe: Recipe) -> Tuple[Datasets, Judge]:
    """The datasets, and the judge of what is found."""
    from detectors.commands.evaluate.judge import Judge
    from detectors.commands.train.datasets import open_datasets

    datasets = open_datasets(recipe)
    if datasets.val is None:
        raise ValueError("data.val is []: there is nothing to compare on")
    return datasets, Judge(
        datasets.val.annotations,
        flavours=["voc07"],
        metric=METRIC,
        category_ids=datasets.category_ids,
        model_classes=datasets.class_names,
        nms=NMS,
    )


def found_in(folder: Path, judge: Judge) -> Found:
    """What a contender found, in all pictures."""
    from data.evaluation.stored import read_detections

    stored = read_detections(folder, judge.annotations, judge.category_ids)
    if len(stored.annotations) != len(judge.annotations):
        raise ValueError(
            f"{folder}: {len(stored.annotations)} of {len(judge.annotations)} pictures were judged"
        )
    return stored.found


def folder_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Of a contender's results."""
    if name == "ours" and options.ours:
        given: Path = options.ours[options.seeds.index(seed)]
        return given
    folder: Path = options.out / f"{name}-{seed}"
    return folder


def about_of(folder: Path) -> Dict[str, Any]:
    """What a contender's training says of itself."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    keys = ("seconds", "images_per_second", "machine", "differences")
    return {"folder": str(folder), **{key: about[key] for key in keys if key in about}}


def device_of(options: argparse.Namespace) -> str:
    """cpu or cuda."""
    from detectors.commands.infer.device import choose_device

    device = choose_device(recipe_of(options, options.seeds[0]).device.value, "device=")
    if device == "ipu":
        raise ValueError("device=ipu: effdet does not run there; device=cpu compares")
    return device


def machine(device: str) -> str:
    """Where figures are from."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    threads = torch.get_num_threads()
    return f"{device} {name}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"


def as_list(interval: Interval) -> List[float]:
    """Value, low, high."""
    return [interval.value, interval.low, interval.high]


# ---- speed ---------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> Dict[str, Any]:
    """Both in turn: medians of a step in milliseconds, and the ratio."""
    from training_contenders import require_comparable

    from detectors.experiment.recipe import image_size

    recipe = recipe_of(options, options.seeds[0])
    require_comparable(recipe)
    milliseconds: Dict[str, List[float]] = {name: [] for name in TIMED}
    with contextlib.ExitStack() as stack:
        ask = {name: stack.enter_context(contender(name, options)) for name in TIMED}
        for turn in range(1 + options.rounds):  # the first warms up
            for name in TIMED if turn % 2 else TIMED[::-1]:
                answer = ask[name]()
                if turn:
                    milliseconds[name].append(1e3 * answer["seconds"])
    medians = {name: statistics.median(times) for name, times in milliseconds.items()}
    return {
        "model": recipe.model.name,
        "image_size": list(image_size(recipe)),
        "images_per_step": recipe.images_per_step,
        "machine": machine(device_of(options)),
        "rounds": options.rounds,
        "milliseconds": medians,
        "ratios": {name: median / medians[TIMED[0]] for name, median in medians.items()},
    }


def contender(name: str, options: argparse.Namespace) -> ContextManager[Callable[[], Any]]:
    """Start a contender; see `contenders.started`."""
    return started(name, [sys.executable, __file__, "speed", *options.words, "--serve", name])


def serve(options: argparse.Namespace) -> None:
    """A contender's process: the seconds of one step for each line of input, until input ends."""
    import time

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    device = device_of(options)
    import torch
    from training_steps import loop_of

    from detectors.commands.train.datasets import open_datasets

    generated = ["data.format=generated", "data.classes=null", "data.count=[64,1]"]
    options.words = [*options.words, *generated, "data.workers=0"]
    recipe = recipe_of(options, options.seeds[0])
    datasets = open_datasets(recipe)
    loop = loop_of(options.serve, recipe, datasets.class_names, device)
    micro_batches = next(iter(loop.batches(datasets)))
    for _ in sys.stdin:
        start = time.perf_counter()
        loop.update(micro_batches)
        if device == "cuda":
            torch.cuda.synchronize()
        answers.write(json.dumps({"seconds": time.perf_counter() - start}) + "\n")


# ---- telling -------------------------------------------------------------------------------------


def tell(report: Dict[str, Any], path: str) -> None:
    """Print a report, or write it as JSON."""
    text = json.dumps(report, indent=2)
    if path == "-":
        print(text)
        return
    if path:
        Path(path).write_text(text + "\n", encoding="utf-8")
    print("\n".join(speed_lines(report) if "ratios" in report else accuracy_lines(report)))


def accuracy_lines(report: Dict[str, Any]) -> List[str]:
    """For people; percent."""
    lines = ["{recipe}: {steps} steps of {images_per_step} images".format(**report)]
    for one in report["seeds"]:
        lines.append(f"seed {one['seed']}, {METRIC} on {one['images']} images, 95 % intervals")
        for name in NAMES:
            about = one["about"][name]
            took = f"{about['seconds']:8.0f} s" if "seconds" in about else ""
            lines.append(f"  {name:12} {percent(one[METRIC][name])} {took}")
        lines.append(f"  ours - effdet {percent(one['ours_minus_effdet'])}")
        ratio = one["ours_over_biases"]
        lines.append(f"  ours / biases {'-' if ratio is None else f'{ratio:.1f}x'}")
    about = report["seeds"][0]["about"]["effdet"]
    return [*lines, *about["differences"], about["machine"]]


def speed_lines(report: Dict[str, Any]) -> List[str]:
    """For people."""
    height, width = report["image_size"]
    times = report["milliseconds"]
    return [
        f"{report['model']} {height}x{width}, a step of {report['images_per_step']} images,"
        f" {report['machine']}",
        *(
            f"{name:20} {times[name]:9.1f} ms {ratio:6.2f}x"
            for name, ratio in report["ratios"].items()
        ),
    ]


def percent(values: List[float]) -> str:
    """`61.2 [58.0, 64.4]`."""
    value, low, high = (100 * number for number in values)
    return f"{value:5.1f} [{low:.1f}, {high:.1f}]"


def numbers(text: str) -> List[int]:
    """`0,1,2`."""
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
