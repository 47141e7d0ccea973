"""A detector over a whole dataset: pictures through a compiled executor into the judge."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Optional, Sequence, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from data.annotations import Dataset
from data.collate import Placed
from data.fitting import Fit
from data.placed_images import EvaluationImages, collator
from data.sampler import shared_out
from detectors.commands.evaluate.judge import Judge
from detectors.commands.evaluate.suppression import SIGMAS, SeveralNms, split_detections
from detectors.experiment.processes import Processes
from detectors.weights.family import Detector
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["judge_model"]


def judge_model(
    model: nn.Module,
    dataset: Dataset,
    fit: Fit,
    judge: Judge,
    options: poptorch.Options,
    *,
    device: str,
    batch_size: int = 1,
    workers: int = 0,
    progress: Callable[[int], None] = lambda count: None,
    processes: Optional[Processes] = None,
    others: Sequence[Judge] = (),
) -> float:
    """Add the detections of every picture to a judge; finishing it is the caller's.

    Args:
        model: for inference: (B, 3, H, W) uint8 -> `Detections`.
        dataset: of samples.
        fit: the network's input, as in training.
        judge: what collects.
        options: of the executor; one call is one batch of `batch_size`.
        device: cpu, cuda or ipu.
        batch_size: B; the last batch is filled up with its first picture.
        workers: processes that read; 0 = this one.
        progress: called with how many pictures are done.
        processes: that share the pictures, each with the whole model; None = this one alone.
        others: judges of other NMS than the model's own, on the same candidates.

    Returns:
        Pictures per second of this process, compiling left out; 0 where one batch was all.
    """
    processes = processes or Processes()
    if IS_HOST:
        poptorch.host.configure(device=device)
    loader: DataLoader[Placed] = DataLoader(
        EvaluationImages(dataset, fit),  # type: ignore[arg-type]  # has a length and items
        sampler=shared_out(len(dataset), (processes.rank, processes.size)),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collator(1),  # boxes are not asked for
    )
    if processes.size > 1:
        options.Distributed.configureProcessId(processes.rank, processes.size)
    executor = poptorch.inferenceModel(program_of(model, others).eval(), options)
    start, timed = 0.0, 0
    try:
        for batch in loader:
            count = len(batch.images)
            images = torch.cat([batch.images, batch.images[:1].repeat(batch_size - count, 1, 1, 1)])
            found = split_detections(executor(images), count)
            for one, detections in zip((judge, *others), found):
                one.add(detections, batch.placements)
            timed += count if start else 0
            start = start or time.perf_counter()
            progress(count)
    finally:
        executor.destroy()
    return timed / (time.perf_counter() - start) if timed else 0.0


def program_of(model: nn.Module, others: Sequence[Judge]) -> nn.Module:
    """What is compiled: the model, with the NMS of the other judges where there are some."""
    if not others:
        return model
    detector = cast(Detector, model)
    own = detector.postprocess.config
    settings = [own, *(replace(own, sigma=SIGMAS[judge.nms]) for judge in others)]
    return SeveralNms(detector, settings)
