"""Train a detector: `python train.py recipe=voc0712_mixed`; `--help` has the rest.

Reads top to bottom: the recipe, the run to resume, the data, the model, the trainer, the end. A
step is a PopTorch program: the same lines run on IPUs with the Poplar SDK, and on a CPU or GPU
without; there, torchrun puts each stage in a process of its own (a rank), and all run these lines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional, Sequence

from detectors.commands.screen import guarded
from detectors.commands.train.arguments import parse
from detectors.experiment.processes import Processes
from detectors.experiment.recipe import Recipe, Task, resolve

if TYPE_CHECKING:  # at run time torch waits until the command line has been understood
    from detectors.commands.train.plan import Plan


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run with the process's command line, or with these words; returns the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    debug = "--debug" in words
    with Processes.of_environment().open("step", own=True) as processes:
        return guarded(
            lambda: run(parse(words), words, processes), debug=debug, processes=processes
        )


def run(recipe: Recipe, words: Sequence[str], processes: Processes) -> int:
    """One command; what it raises is explained by `guarded`. Returns the exit code."""
    from detectors.commands.infer.device import calm_threads, choose_device, choose_gpu

    calm_threads()  # before anything imports torch
    if recipe.task is Task.evaluate:
        from detectors.commands.evaluate.command import evaluate

        return evaluate(recipe, processes)
    device = choose_device(recipe.device.value, "device=")  # before anything imports PopTorch
    choose_gpu(device, processes)

    from detectors.commands.train.check import check_data, run_check
    from detectors.commands.train.datasets import open_datasets
    from detectors.commands.train.header import device_line
    from detectors.commands.train.missing_weights import find_missing, stand_in
    from detectors.commands.train.model import build_model
    from detectors.commands.train.plan import Plan, seed_everything
    from detectors.commands.train.resume import find_earlier, finished_text
    from detectors.commands.train.throughput import run_throughput
    from detectors.experiment.ranks import ranks_of

    print(device_line(recipe, device))
    recipe = resolve(recipe)
    ranks = ranks_of(recipe, processes)
    earlier = processes.from_first(lambda: find_earlier(recipe))
    if earlier is not None and earlier.finished_for(recipe):
        print(finished_text(earlier))
        return 0
    datasets = open_datasets(recipe, refuse=recipe.task is not Task.check)
    checkpoint = earlier.checkpoint if earlier is not None else None
    missing = None
    if recipe.task is Task.check:
        check_data(datasets)
        missing = None if checkpoint else find_missing(recipe, datasets.class_names)
        recipe = stand_in(recipe) if missing else recipe
    seed_everything(recipe)
    model, report = build_model(recipe, datasets.class_names, checkpoint=checkpoint)
    plan = Plan(recipe, device, datasets, model, report, earlier, ranks, missing)
    print("\n".join(plan.header()))
    if recipe.task is Task.check:
        return run_check(plan)
    if recipe.task is Task.throughput:
        return run_throughput(plan)
    return train(plan, words)


def train(plan: Plan, words: Sequence[str]) -> int:
    """Fit, evaluate, say where it all is; returns the exit code."""
    from detectors.commands.train.batch_view import write_batch_view
    from detectors.commands.train.finish import data_notes, finish, judge_of, last_words
    from detectors.commands.train.folder import open_run
    from detectors.commands.train.memory import explained_memory
    from detectors.commands.train.pictures import detection_data
    from detectors.commands.train.resume import resume_command
    from detectors.commands.train.training import (
        callbacks_of,
        checkpoints_of,
        metrics_of,
        module_of,
        strategy_of,
    )
    from detectors.experiment.lightning_guard import Stopped
    from detectors.experiment.lightning_trainer import (
        build_trainer,
        extra_loggers,
        quiet,
        require_loggers,
        time_is_up,
    )
    from detectors.experiment.run_log import run_log

    recipe, earlier, processes = plan.recipe, plan.earlier, plan.ranks.processes
    require_loggers(recipe.run.loggers)
    judge = judge_of(plan)
    data = detection_data(recipe, plan.datasets, plan.preprocess.pad, plan.ranks)
    module, strategy = module_of(plan, judge), strategy_of(plan)
    folder = processes.from_first(lambda: open_run(plan, words))  # until here nothing was written
    print(f"run {folder}")
    with run_log(folder, write=processes.first) as log, quiet():
        log.info("\n".join(["header", *plan.header()]))
        write_batch_view(plan, data, folder)
        checkpoints = checkpoints_of(plan, folder, judge)
        metrics = metrics_of(plan, folder)
        trainer = build_trainer(
            recipe,
            folder,
            calls=plan.calls,
            loggers=[] if metrics is None else [metrics, *extra_loggers(recipe, folder)],
            callbacks=callbacks_of(plan, folder, checkpoints),
            strategy=strategy,
        )
        try:
            with explained_memory(recipe, plan.device, plan.model):
                trainer.fit(module, data, ckpt_path=None if earlier is None else earlier.checkpoint)
        except Stopped as stopped:
            print(f"{stopped}; continue: {resume_command(folder, processes.size)}")
            return stopped.exit_code
        for line in data_notes(data):
            print(line)
        if time_is_up(trainer):
            print(f"trainer.max_time is up: saved last.ckpt (step {module.step});")
            print(f"continue: {resume_command(folder, processes.size)}")
            return 0
        lines = finish(plan, folder, judge, checkpoints, metrics)
        print("\n".join([*lines, *last_words(plan, folder)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
