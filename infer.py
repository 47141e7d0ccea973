"""Find objects in images: `python infer.py efficientdet-d2 images/`; `--help` has the rest.

Reads top to bottom: the images, the model, its executor, the loop over batches, the summary. It is
a PopTorch program: the same lines run on an IPU with the Poplar SDK, and on a CPU or GPU without.
Under torchrun or poprun each process runs the whole model on its share of the images.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from typing import TYPE_CHECKING, Callable, Optional, Sequence

from detectors.commands.infer.arguments import Arguments, parse
from detectors.commands.screen import guarded
from detectors.experiment.processes import Processes

if TYPE_CHECKING:  # at run time torch waits until the command line has been understood
    from detectors.commands.infer.batches import PrepareOne
    from detectors.commands.infer.runner import Runner


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run with the process's command line, or with these words; returns the exit code."""
    debug = "--debug" in (sys.argv if words is None else words)
    with Processes.of_environment().open() as processes:
        return guarded(lambda: run(parse(words), processes), debug=debug, processes=processes)


def run(args: Arguments, processes: Processes) -> int:
    """One run; what it raises is explained by `guarded`. Returns the exit code."""
    from detectors.commands.infer.device import calm_threads, choose_device, choose_gpu, set_threads

    calm_threads()  # before anything imports torch
    device = choose_device(args.device)  # before anything imports PopTorch
    choose_gpu(device, processes)
    set_threads(args.threads)

    from data.reading import large_images
    from detectors.commands.infer.batches import prepare
    from detectors.commands.infer.benchmark import run_benchmark
    from detectors.commands.infer.detector import prepare_detector, wanted_labels
    from detectors.commands.infer.images import open_images
    from detectors.commands.infer.model import load_model
    from detectors.commands.infer.runner import Runner, fastest_batch
    from detectors.commands.infer.settings import graph_threshold, precision_of, run_settings
    from detectors.experiment.threads import ThreadTrial

    say: Callable[[str], None] = (lambda text: None) if args.quiet else print
    with large_images():
        images = open_images(args, processes)
        model, report = load_model(args)
        share = len(images) if args.benchmark else -(-len(images) // processes.size)
        settings = run_settings(args, model.config.name, share)
        precision = precision_of(args, settings, device)
        detector = prepare_detector(model, report, args, precision, graph_threshold(args, device))
        wanted = wanted_labels(detector.classes, args.classes)
        say(detector.headline(device, processes.size))

        if args.batch == "auto":
            batch = fastest_batch(detector, settings, device, share, processes)
            settings = dataclasses.replace(settings, micro_batch_size=batch)
            say(f"batch {batch}, the fastest here")
        runner = Runner(detector, settings, device, args.nms, processes)
        if args.threads == "auto" and device == "cpu":
            runner.trial = ThreadTrial()
        prepare_one = prepare(images, detector.fit)
        path = args.compile_only
        if path is not None:
            processes.from_first(lambda: runner.save(path))
            print(f"{path}: run it with --executable {path}")
            return 0
        if args.executable is not None:
            runner.load(args.executable)
        if args.benchmark:
            return run_benchmark(args, len(images), prepare_one, runner, processes)
        return detect(args, images.names, wanted, prepare_one, runner, processes)


def detect(
    args: Arguments,
    names: Sequence[str],
    wanted: Optional[Sequence[int]],
    prepare_one: PrepareOne,
    runner: Runner,
    processes: Processes,
) -> int:
    """Detect in every image, write what was found, and say so; returns the exit code."""
    from detectors.commands.infer.batches import NOTHING, batches
    from detectors.commands.infer.detection import detect_batch
    from detectors.commands.infer.results import Drawings, run_folder
    from detectors.commands.infer.resume import earlier_images
    from detectors.commands.infer.summary import summarise
    from detectors.commands.infer.turns import Collector, share, turn_of
    from detectors.experiment.timing import Timings

    detector = runner.detector
    header = {**detector.header(), "score_threshold": args.score, "only": args.classes}
    writable = args.overwrite or args.resume
    folder = processes.from_first(lambda: run_folder(args.out, detector.name, writable=writable))
    resumed = args.resume and processes.first
    earlier = earlier_images(folder, header, detector.classes) if resumed else []
    done = processes.from_first(lambda: {image.file for image in earlier})
    todo = [index for index, name in enumerate(names) if name not in done]
    mine = share(todo, runner.images_per_call, processes) * (args.repeat or 1)
    timings = Timings()
    drawings = Drawings(folder, args, detector.classes)
    collector = Collector(folder, args, detector.classes, header, names, todo, processes.interrupts)

    with collector.opened(earlier, first=processes.first), processes.interrupts.deferred():
        read = batches(mine, prepare_one, runner.images_per_call)
        for batch in itertools.chain(read, itertools.repeat(NOTHING)):
            found = detect_batch(runner, batch, timings, wanted)
            for item, image in zip(batch.items, found):
                drawings.add(image, item.sample.image)
            turn = turn_of(batch, found, processes.interrupts.exit_code, runner.note)
            verdict = processes.agree(turn, collector.take)
            if not verdict.go_on:
                break
    if runner.note and not args.quiet:
        print(runner.note)
    if args.repeat is not None:
        timings = processes.agree(timings, Timings.joined)
    return processes.from_first(
        lambda: summarise(args, collector.results, timings, detector.image_size, verdict.exit_code)
    )


if __name__ == "__main__":
    sys.exit(main())
