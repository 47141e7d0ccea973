"""The compiled model: uint8 images in, detections out, however the executor batches them.

B images of a call, K candidates, D detections. Boxes are xyxy pixels of the network's input.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from detectors.commands.infer.detector import Detector
from detectors.experiment.batch_size import best_batch
from detectors.experiment.inference_settings import InferenceSettings, poptorch_options
from detectors.experiment.processes import Processes
from detectors.experiment.threads import ThreadTrial
from detectors.postprocess import Candidates, Detections, PostprocessConfig
from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["Row", "Runner", "best_candidates", "fastest_batch"]

AUTO_LIMIT = 64  # the largest batch that --batch auto tries


class Row(NamedTuple):
    """The detections of one image, best first."""

    boxes: Tensor
    """(D, 4) float32."""
    scores: Tensor
    """(D,) float32."""
    labels: Tensor
    """(D,) int32."""


class Overlapped(nn.Module):
    """The model with its copies to and from the host overlapping the device's loop."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """As the model's."""
        mode = poptorch.OverlapMode.OverlapDeviceIterationLoop
        images = poptorch.set_overlap_for_input(images, mode)
        return poptorch.set_overlap_for_output(self.model(images), mode)


class Runner:
    """An executor for a fixed number of images per call, and NMS on the host where it is not in the
    graph.

    Args:
        detector: what to run.
        settings: how.
        device: cpu, cuda or ipu.
        nms: device, host or none.
        processes: each of which runs the whole model.
    """

    def __init__(
        self,
        detector: Detector,
        settings: InferenceSettings,
        device: str,
        nms: str = "device",
        processes: Optional[Processes] = None,
    ) -> None:
        if IS_HOST:
            poptorch.host.configure(device=device)
        self.detector = detector
        self.settings = settings
        self.device = device
        self.nms = nms
        self.images_per_call = (
            settings.micro_batch_size * settings.device_iterations * settings.replication_factor
        )
        overlapped = settings.io_tiles and settings.device_iterations > 1
        model = Overlapped(detector.model) if overlapped else detector.model
        options = poptorch_options(settings)
        if processes is not None and processes.size > 1:
            options.Distributed.configureProcessId(processes.rank, processes.size)
        self.executor = poptorch.inferenceModel(model, options)
        self.trial: Optional[ThreadTrial] = None
        """Set to find the best number of CPU threads on the first calls."""

    def __call__(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Run the graph.

        Args:
            images: (B, 3, H, W) uint8, at most `images_per_call`; a short batch is filled up with
                its first image.

        Returns:
            The graph's outputs for these images, on the CPU.
        """
        count = len(images)
        missing = self.images_per_call - count
        if missing:
            images = torch.cat([images, images[:1].expand(missing, -1, -1, -1)])
        start = time.perf_counter()
        outputs = tuple(output[:count].cpu() for output in self.executor(images))
        if self.trial is not None:
            self.trial.saw(time.perf_counter() - start)
        return outputs

    def detections(self, outputs: Tuple[Tensor, ...]) -> Detections:
        """What is left to do on the host: nothing, NMS, or the choice of the best candidates."""
        if self.nms == "device":
            return Detections(*outputs)
        postprocess = self.detector.model.postprocess
        if self.nms == "host":
            kept: Detections = postprocess.select(Candidates(*outputs))
            return kept
        return best_candidates(Candidates(*outputs), postprocess.config)

    def rows(self, outputs: Tuple[Tensor, ...]) -> List[Row]:
        """The detections of each image, without the filling."""
        boxes, scores, labels, count = self.detections(outputs)
        ends = count.tolist()
        return [Row(boxes[i, :n], scores[i, :n], labels[i, :n]) for i, n in enumerate(ends)]

    @property
    def settled(self) -> bool:
        """Whether calls from here on are like each other: compiled, and threads found."""
        return self.trial is None or self.trial.chosen is not None

    @property
    def note(self) -> str:
        """What the progress line says of threads."""
        return self.trial.note if self.trial is not None else ""

    def example(self) -> Tensor:
        """Images of a whole call, (B, 3, H, W) uint8 zeros."""
        return torch.zeros(self.images_per_call, 3, *self.detector.image_size, dtype=torch.uint8)

    def save(self, path: Path) -> None:
        """Compile and write the executable; `FILE.json` beside it says what it was compiled for."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.executor.compileAndExport(str(path), self.example())
        described = path.with_name(path.name + ".json")
        described.write_text(json.dumps(self.description(), indent=1) + "\n", encoding="utf-8")

    def load(self, path: Path) -> None:
        """Take the executable of `save` instead of compiling.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it was compiled for other settings; the message names the first that
                differs.
        """
        described = path.with_name(path.name + ".json")
        for file in (path, described):
            if not file.exists():
                raise FileNotFoundError(f"no executable at {file}: --compile-only {path} makes it")
        saved = json.loads(described.read_text(encoding="utf-8"))
        for key, value in json.loads(json.dumps(self.description())).items():
            if saved.get(key) != value:
                raise ValueError(
                    f"{path} was compiled with {key} {saved.get(key)}, this run has {value}:"
                    " ask for the same, or compile again"
                )
        self.executor.loadExecutable(str(path))

    def description(self) -> Dict[str, Any]:
        """Everything that is compiled in; weights are not, they are copied when it is loaded."""
        config = dataclasses.asdict(self.detector.model.postprocess.config)
        return {
            "model": self.detector.name,
            "image_size": list(self.detector.image_size),
            "num_classes": self.detector.model.config.num_classes,
            **self.detector.form,
            "precision": self.detector.precision,
            "micro_batch_size": self.settings.micro_batch_size,
            "device_iterations": self.settings.device_iterations,
            "replication_factor": self.settings.replication_factor,
            "io_tiles": self.settings.io_tiles,
            "partials": self.settings.partials.value,
            "available_memory_proportion": self.settings.available_memory_proportion,
            "nms": "device" if self.nms == "device" else "none",
            **config,
        }


def best_candidates(candidates: Candidates, config: PostprocessConfig) -> Detections:
    """The best scores over the threshold with no regard to overlap: what --nms none shows.

    Args:
        candidates: (B, K) scores, or (B, N, C) where every class of every anchor takes part.
        config: `score_threshold` and `max_detections` are used.
    """
    boxes, scores, labels = candidates
    if scores.dim() == 3:
        batch, _, classes = scores.shape
        scores = scores.reshape(batch, -1)  # (B, N * C)
        scores, place = scores.topk(min(config.max_detections, scores.shape[1]))
        row = torch.div(place, classes, rounding_mode="floor")
        labels = place - row * classes
    else:
        scores, row = scores.topk(min(config.max_detections, scores.shape[1]))
        labels = labels.gather(1, row)
    boxes = boxes.gather(1, row[..., None].expand(-1, -1, 4))
    count = (scores > config.score_threshold).sum(dim=1)
    return Detections(boxes, scores, labels.int(), count.int())


def fastest_batch(
    detector: Detector,
    settings: InferenceSettings,
    device: str,
    num_images: int,
    processes: Processes,
) -> int:
    """What --batch auto means: measured on a CPU or GPU, the recipe's on the IPU, where compiling
    takes minutes. All processes measure at the same time, and take what the first has found.
    """
    if device == "ipu":
        return settings.micro_batch_size

    def seconds_of(batch: int) -> float:
        tried = dataclasses.replace(settings, micro_batch_size=batch, device_iterations=1)
        runner = Runner(detector, tried, device, processes=processes)
        images = runner.example()
        runner(images)  # compiles
        start = time.perf_counter()
        runner(images)
        return time.perf_counter() - start

    found = best_batch(seconds_of, min(AUTO_LIMIT, num_images))
    return processes.agree(found, lambda batches: batches[0])
