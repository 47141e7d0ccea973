"""Find objects in images: `python infer.py efficientdet-d2 images/`; `--help` has the rest.

Reads top to bottom: the images, the model, its executor, the loop over batches, the summary. It is
a PopTorch program: the same lines run on an IPU with the Poplar SDK, and on a CPU or GPU without.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Callable, Optional, Sequence

from detectors.commands.infer.arguments import Arguments, parse
from detectors.commands.screen import guarded
from detectors.experiment.interrupts import Interrupts

if TYPE_CHECKING:  # at run time torch waits until the command line has been understood
    from detectors.commands.infer.batches import PrepareOne
    from detectors.commands.infer.runner import Runner


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run with the process's command line, or with these words; returns the exit code."""
    debug = "--debug" in (sys.argv if words is None else words)
    with Interrupts() as interrupts:
        return guarded(lambda: run(parse(words), interrupts), debug=debug)


def run(args: Arguments, interrupts: Interrupts) -> int:
    """One run; what it raises is explained by `guarded`. Returns the exit code."""
    from detectors.commands.infer.device import calm_threads, choose_device, set_threads

    calm_threads()  # before anything imports torch
    device = choose_device(args.device)  # before anything imports PopTorch
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
        images = open_images(args)
        model, report = load_model(args)
        settings = run_settings(args, model.config.name, len(images))
        precision = precision_of(args, settings, device)
        detector = prepare_detector(model, report, args, precision, graph_threshold(args, device))
        wanted = wanted_labels(detector.class_names, args.classes)
        say(detector.headline(device))

        if args.batch == "auto":
            batch = fastest_batch(detector, settings, device, len(images))
            settings = dataclasses.replace(settings, micro_batch_size=batch)
            say(f"batch {batch}, the fastest here")
        runner = Runner(detector, settings, device, args.nms)
        if args.threads == "auto" and device == "cpu":
            runner.trial = ThreadTrial()
        prepare_one = prepare(images, detector.fit)
        if args.compile_only is not None:
            runner.save(args.compile_only)
            print(f"{args.compile_only}: run it with --executable {args.compile_only}")
            return 0
        if args.executable is not None:
            runner.load(args.executable)
        if args.benchmark:
            return run_benchmark(args, len(images), prepare_one, runner)
        return detect(args, images.names, wanted, prepare_one, runner, interrupts)


def detect(
    args: Arguments,
    names: Sequence[str],
    wanted: Optional[Sequence[int]],
    prepare_one: PrepareOne,
    runner: Runner,
    interrupts: Interrupts,
) -> int:
    """Detect in every image, write what was found, and say so; returns the exit code."""
    from detectors.commands.infer.batches import batches
    from detectors.commands.infer.detection import detect_batch
    from detectors.commands.infer.results import Results, run_folder
    from detectors.commands.infer.resume import earlier_images
    from detectors.commands.infer.summary import summarise
    from detectors.experiment.console import Progress
    from detectors.experiment.run_log import run_log
    from detectors.experiment.timing import Timings

    detector = runner.detector
    header = {**detector.header(), "score_threshold": args.score, "only": args.classes}
    folder = run_folder(args.out, detector.name, writable=args.overwrite or args.resume)
    earlier = earlier_images(folder, header, detector.class_names) if args.resume else []
    done = {image.file for image in earlier}
    todo = [index for index, name in enumerate(names) if name not in done] * (args.repeat or 1)
    timings = Timings()

    with run_log(folder), Results(folder, args, detector.class_names, header) as results:
        for image in earlier:
            results.add(image, None)
        with Progress(len(todo), quiet=args.quiet) as progress, interrupts.deferred():
            for batch in batches(todo, prepare_one, runner.images_per_call):
                for bad in batch.unreadable:
                    results.skip(names[bad.index], bad.reason)
                found = detect_batch(runner, batch, timings, wanted)
                for item, image in zip(batch.items, found):
                    results.add(image, item.sample.image)
                progress.advance(len(batch.items) + len(batch.unreadable), runner.note)
                if interrupts.requested:
                    break
            else:
                results.complete = True
    if runner.note and not args.quiet:
        print(runner.note)
    return summarise(args, results, timings, detector.image_size, interrupts.exit_code)


if __name__ == "__main__":
    sys.exit(main())
