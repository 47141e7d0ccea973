"""Pipelines over ranks: how busy schedules keep them, and what ranks gain beside threads.

    python benchmarks/pipeline.py [schedules] [model] [stages] [--ranks 2,4,8] [--json -]

`schedules`: stages that sleep a fixed time in forward and in backward, so that more ranks than
cores can be measured. p ranks that run m micro-batches are busy for m / (m + p - 1) of a step,
whatever the schedule; both schedules take turns in the same ranks, one step each. `model`: the
recipe `generated` (Faster R-CNN R18, 192 px) as one process with two threads and as two ranks with
one thread each, in turn, one step each; also each rank's memory. `stages`: what each stage of
a recipe holds, sends and keeps for one micro-batch, and how long it takes. Ranks are started with
torchrun. Times are medians of rank 0's calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import torch
from contenders import started
from torch import Tensor, nn

SCHEDULES = ("gpipe", "1f1b")
PER_STAGE = 2  # micro-batches per rank; PopTorch takes no fewer than 2p - 1
MIB = 2**20
ONE = "1 process, 2 threads"
TWO = ["rpn"]  # half of the time on either side
PARTS = ("schedules", "model", "stages")
Call = Callable[[], Any]


class Nap(torch.autograd.Function):
    """The identity, which sleeps on its way there and back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: float, backward: float) -> Tensor:
        ctx.seconds = backward
        time.sleep(forward)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None, None]:
        time.sleep(ctx.seconds)
        return gradient, None, None


class Sleepers(nn.Module):
    """One linear layer and one nap per stage.

    Args:
        forward: seconds each stage sleeps per micro-batch; backward likewise.
    """

    def __init__(self, stages: int, forward: float, backward: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(stages))
        self.seconds: Dict[str, Any] = {"forward": forward, "backward": backward}

    def forward(self, x: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
        from poplar_ops.runtime import poptorch

        loss = x
        for stage, layer in enumerate(self.layers):
            with poptorch.Block(ipu_id=stage):
                (x,) = poptorch.custom_op(
                    [layer(x)], "Nap", "benchmark", 1, [x], attributes=self.seconds
                )
                if stage == len(self.layers) - 1:
                    loss = nn.functional.mse_loss(x, target)
        return x, loss


def sleepers(options: argparse.Namespace) -> Dict[str, Call]:
    """A step of training of sleeping stages under each schedule."""
    from poplar_ops.runtime import poptorch
    from poptorch_host import host

    host.register_custom_op(
        "benchmark",
        "Nap",
        lambda inputs, given: [Nap.apply(inputs[0], given["forward"], given["backward"])],
    )
    ranks = int(os.environ["WORLD_SIZE"])
    settings = poptorch.Options().autoRoundNumIPUs(True)
    settings.Training.gradientAccumulation(PER_STAGE * ranks)
    batch = torch.ones(PER_STAGE * ranks, 4)

    def build(schedule: str) -> Call:
        host.configure(schedule=schedule, recompute="never")
        model = Sleepers(ranks, options.forward, options.backward)
        optimizer = poptorch.optim.SGD(model.parameters(), lr=0.01)
        executor = poptorch.trainingModel(model, settings.clone(), optimizer)
        executor.compile(batch, batch)
        return lambda: executor(batch, batch)

    return {schedule: build(schedule) for schedule in SCHEDULES}


class Training(NamedTuple):
    """A recipe's model in training, and one batch of generated pictures of its size."""

    model: nn.Module
    recipe: Any
    batch: Tuple[Tensor, Tensor, Tensor, Tensor]
    """Images (B, 3, H, W) uint8, boxes, labels, keys."""


def training(name: str, splits: Optional[List[str]], count: Optional[int] = None) -> Training:
    """A recipe's model with random weights, in stages.

    Args:
        splits: modules that start a stage; None takes the recipe's.
        count: pictures; None takes those of one update.
    """
    from data.collate import Placed, collate, place
    from data.generated import GeneratedImages
    from detectors.commands.train.model import build_model
    from detectors.experiment.recipe import image_size, load_recipe
    from detectors.splits import apply_splits

    recipe = load_recipe(name, ["model.weights=random"])
    classes = recipe.data.classes or ["circle", "square", "triangle"]
    model = build_model(recipe, classes, quiet=True)[0].for_training()
    apply_splits(model, recipe.pipeline.splits if splits is None else splits)
    count = count or recipe.micro_batch_size * recipe.gradient_accumulation
    size = image_size(recipe)
    pictures = GeneratedImages(count, size)
    placed = []
    for index in range(count):
        sample = pictures[index]
        image, placement = place(sample, size)
        placed.append(Placed(image, sample.boxes, sample.labels, index, placement))
    return Training(model.train(), recipe, collate(placed, recipe.data.max_boxes).tensors)


def detector(options: argparse.Namespace) -> Dict[str, Call]:
    """A step of the recipe's training, split for the ranks there are."""
    from detectors.experiment.training_options import poptorch_options
    from poplar_ops.runtime import poptorch

    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    splits: Dict[int, Optional[List[str]]] = {1: [], 2: options.split}
    model, recipe, batch = training(options.recipe, splits.get(ranks))
    optimizer = poptorch.optim.SGD(model.parameters(), lr=1e-4)
    executor = poptorch.trainingModel(model, poptorch_options(recipe), optimizer)
    executor.compile(*batch)
    return {"step": lambda: executor(*batch)}


def measure_stages(options: argparse.Namespace) -> List[Dict[str, float]]:
    """Of each stage, for one micro-batch: MiB of weights, sent and kept, milliseconds there, back.

    The stages run one after another in this process, on one thread, keeping all activations.
    """
    torch.set_num_threads(1)
    splits = options.split if options.split_given else None
    model, recipe, batch = training(options.recipe, splits, count=1)
    if recipe.micro_batch_size > 1:
        batch = training(options.recipe, splits, count=recipe.micro_batch_size).batch
    parts = parts_of(model, batch)
    tensors: List[Tensor] = list(batch)
    runs, rows = [], []
    for part in parts:
        like = zip(tensors, part.inputs)
        given = [value.detach().requires_grad_(meta.requires_grad) for value, meta in like]
        owned = {tensor.data_ptr() for tensor in (*part.module.parameters(), *given)}
        kept: Dict[int, int] = {}

        def keep(tensor: Tensor, kept: Dict[int, int] = kept, owned: Set[int] = owned) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in owned:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), running():
            tensors = list(part.module(*given))
        seconds = time.perf_counter() - start
        runs.append((given, tensors))
        weights = {tensor.data_ptr(): tensor for tensor in part.module.parameters()}
        rows.append(
            {
                "weights": size_of(list(weights.values())),
                "sent": size_of(tensors[:-1] if part is parts[-1] else tensors),
                "received": size_of(given),
                "kept": sum(kept.values()) / MIB,
                "forward": 1e3 * seconds,
            }
        )
    gradients: List[Optional[Tensor]] = [torch.ones(())]
    for row, (given, results) in zip(reversed(rows), reversed(runs)):
        pairs = zip(results[-len(gradients) :], gradients)
        chosen = [(out, grad) for out, grad in pairs if out.requires_grad]
        start = time.perf_counter()
        with running():
            torch.autograd.backward([out for out, _ in chosen], [grad for _, grad in chosen])
        row["backward"] = 1e3 * (time.perf_counter() - start)
        gradients = [tensor.grad for tensor in given]
    rows[-1]["sent"] = 0.0
    return rows


def parts_of(model: nn.Module, batch: Sequence[Tensor]) -> List[Any]:
    """The stages of a model in training, as ranks run them, without recomputation."""
    import poptorch_host as poptorch
    from poptorch_host.capture.capture import capture
    from poptorch_host.engine.engine import Layout, Replica
    from poptorch_host.graph.parts import split
    from poptorch_host.tensors.arguments import bind_arguments

    options = poptorch.Options().autoRoundNumIPUs(True)
    options.Training.gradientAccumulation(99)  # enough for any number of stages
    arguments = bind_arguments(model.forward, tuple(batch), {})
    program = capture(model, arguments, options, report_only=False, training=True)
    tree = Replica(model, program, Layout(torch.device("cpu"), False), {}).module
    return split(tree, program, arguments, training=True, recompute=False)


def running() -> ContextManager[None]:
    """As in an executor."""
    from poptorch_host import _state

    return _state.running(seed=0)


def size_of(tensors: Sequence[Tensor]) -> float:
    """MiB of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MIB


BUILDERS: Dict[str, Callable[[argparse.Namespace], Dict[str, Call]]] = {
    "schedules": sleepers,
    "model": detector,
}


def serve(options: argparse.Namespace) -> None:
    """A contender's process or rank: rank 0 answers each line of input with a line of JSON."""
    first = os.environ.get("RANK", "0") == "0"
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(options.threads)
    calls = BUILDERS[options.serve](options)
    for _ in range(options.rounds + 1):
        for name, call in calls.items():
            if first:
                sys.stdin.readline()
            start = time.perf_counter()
            call()
            if first:
                answer = {"name": name, "seconds": time.perf_counter() - start}
                answers.write(json.dumps(answer) + "\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rank = os.environ.get("RANK", "0")
    Path(options.folder, f"{options.serve}{os.environ.get('WORLD_SIZE', '1')}.{rank}").write_text(
        str(memory)
    )


def contender(
    what: str, ranks: int, options: argparse.Namespace
) -> ContextManager[Callable[[], Any]]:
    """Start one process or several ranks; yields a function that runs one step of theirs."""
    words = [sys.executable]
    if ranks > 1:
        words += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    words += [__file__, "--serve", what, "--threads", "1" if ranks > 1 else "2"]
    words += ["--rounds", str(options.rounds), "--folder", options.folder]
    words += ["--forward", str(options.forward), "--backward", str(options.backward)]
    words += ["--recipe", options.recipe, "--split", *options.split]
    return started(what, words, {"OMP_NUM_THREADS": "1" if ranks > 1 else "2"})


def compare_schedules(options: argparse.Namespace) -> List[Dict[str, Any]]:
    """Share of a step in which a rank works, measured and by the formula, per schedule."""
    rows = []
    for ranks in options.ranks:
        seconds: Dict[str, List[float]] = {name: [] for name in SCHEDULES}
        with contender("schedules", ranks, options) as ask:
            for turn in range((options.rounds + 1) * len(SCHEDULES)):
                answer = ask()
                if turn >= len(SCHEDULES):  # the first step of each warms up
                    seconds[answer["name"]].append(answer["seconds"])
        micro_batches = PER_STAGE * ranks
        formula = micro_batches / (micro_batches + ranks - 1)
        busy = micro_batches * (options.forward + options.backward)
        for name, times in seconds.items():
            measured = busy / statistics.median(times)
            row = {"ranks": ranks, "micro_batches": micro_batches, "schedule": name}
            rows.append({**row, "busy": measured, "formula": formula, "ratio": measured / formula})
    return rows


def compare_model(options: argparse.Namespace) -> Dict[str, Any]:
    """Milliseconds per step of one process and of ranks, in turn, and peak memory of each."""
    counts = {ONE: 1, **{f"{ranks} ranks, 1 thread": ranks for ranks in options.model_ranks}}
    times: Dict[str, List[float]] = {name: [] for name in counts}
    with contextlib.ExitStack() as stack:
        ask = {
            name: stack.enter_context(contender("model", ranks, options))
            for name, ranks in counts.items()
        }
        for turn in range(options.rounds + 1):
            for name in counts:
                milliseconds = 1e3 * ask[name]()["seconds"]
                if turn:
                    times[name].append(milliseconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    folder = Path(options.folder)
    memory = {
        name: [float((folder / f"model{ranks}.{rank}").read_text()) for rank in range(ranks)]
        for name, ranks in counts.items()
    }
    ratios = {name: medians[ONE] / value for name, value in medians.items() if name != ONE}
    return {"milliseconds": medians, "ratios": ratios, "peak_mib": memory}


def numbers(text: str) -> List[int]:
    """Numbers between commas."""
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    """Measure, and print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=[], help="schedules, model; both")
    parser.add_argument("--ranks", type=numbers, default=[2, 4, 8], help="of the schedules")
    parser.add_argument("--model-ranks", type=numbers, default=[2], help="2 or 4, of the model")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each")
    parser.add_argument("--forward", type=float, default=0.1, help="seconds a stage sleeps")
    parser.add_argument("--backward", type=float, default=0.2, help="and on the way back")
    parser.add_argument("--recipe", default="generated")
    parser.add_argument("--split", nargs="*", help=f"of two ranks, {TWO}; of stages, the recipe's")
    parser.add_argument("--json", metavar="FILE", help="write results as JSON; - is stdout")
    parser.add_argument("--serve", choices=BUILDERS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.split_given = options.split is not None
    options.split = TWO if options.split is None else options.split
    if options.serve:
        serve(options)
        return
    chosen = options.what or PARTS
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown}; parts: {', '.join(PARTS)}")
    report: Dict[str, Any] = {"torch": torch.__version__}
    with tempfile.TemporaryDirectory() as options.folder:
        if "schedules" in chosen:
            report["schedules"] = compare_schedules(options)
        if "model" in chosen:
            report["model"] = compare_model(options)
    if "stages" in chosen:
        report["stages"] = measure_stages(options)
    if options.json == "-":
        print(json.dumps(report, indent=2))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    show(report)


def show(report: Dict[str, Any]) -> None:
    """Print the tables."""
    print("torch {torch}".format(**report))
    for row in report.get("schedules", []):
        print(
            "{schedule:6} {ranks:2} ranks, {micro_batches:2} micro-batches:"
            " busy {busy:6.1%}, formula {formula:6.1%}, ratio {ratio:.3f}".format(**row)
        )
    for number, row in enumerate(report.get("stages", [])):
        print(
            "stage {number:2}: weights {weights:6.1f} MiB, sends {sent:6.2f} MiB, keeps {kept:7.1f}"
            " MiB, forward {forward:7.1f} ms, backward {backward:7.1f} ms".format(
                number=number, **row
            )
        )
    if "model" not in report:
        return
    model = report["model"]
    for name, value in model["milliseconds"].items():
        ratio = f"{model['ratios'][name]:6.2f}x" if name in model["ratios"] else " " * 7
        memory = ", ".join(f"{mib:.0f}" for mib in model["peak_mib"][name])
        print(f"{name:22} {value:9.1f} ms {ratio}   peak memory {memory} MiB")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
