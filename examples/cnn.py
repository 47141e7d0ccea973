"""A residual CNN in a pipeline over four IPUs, trained, validated and trained on.

    python -m poptorch_host examples/cnn.py      # on any machine
    python examples/cnn.py                       # with the Poplar SDK, on four IPUs
    poprun --num-instances 2 --num-replicas 4 python examples/cnn.py

Each class of pictures is a wave of its own direction and width, in any phase and colour, in noise.
"""

from __future__ import annotations

import argparse
import math
import warnings
from typing import Any, Tuple

import poptorch
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

try:
    import popdist
    import popdist.poptorch
except ImportError:  # the SDK has it, and so has `python -m poptorch_host`
    popdist = None

# PopTorch's optimizers step on the device, where a schedule's check cannot see it.
warnings.filterwarnings("ignore", message="Detected call of .lr_scheduler.step")

CLASSES = 8
STAGES = 4


class Waves(Dataset[Tuple[Tensor, Tensor]]):
    """Pictures (3, 16, 16) with labels below CLASSES; another seed, other pictures."""

    def __init__(self, count: int, seed: int, dtype: torch.dtype) -> None:
        self.count, self.seed, self.dtype = count, seed, dtype

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        label = index % CLASSES
        angle, width = math.pi / 4 * (label % 4), (4, 8)[label // 4]
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        phase = 2 * math.pi * torch.rand((), generator=generator)
        wave = torch.sin(2 * math.pi / width * (x * math.cos(angle) + y * math.sin(angle)) + phase)
        colour = torch.rand(3, 1, 1, generator=generator)
        image = colour * wave + 0.5 * torch.randn(3, 16, 16, generator=generator)
        return image.to(self.dtype), torch.tensor(label, dtype=torch.int32)


class Residual(nn.Module):
    """(B, C, H, W) -> (B, D, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.skip = nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class Network(nn.Module):
    """Stem, three residual blocks and a head; one pipeline stage begins at each block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.blocks = nn.ModuleList(
            [Residual(width, width, 2), Residual(width, 2 * width, 2), Residual(2 * width, 64, 2)]
        )
        self.head = nn.Linear(64, CLASSES)
        for number, block in enumerate(self.blocks, start=1):
            # The stem is on IPU 0. The module stays what it was: state_dict() keeps its names.
            poptorch.BeginBlock(layer_to_call=block, ipu_id=number)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.stem(images))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class WithLoss(nn.Module):
    """Returns the loss, in float32 whatever the model is in, and the share that is recognised."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
        logits = self.network(images).float()
        loss = nn.functional.cross_entropy(logits, labels.long())
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return poptorch.identity_loss(loss, reduction="none"), accuracy


def common_options(arguments: argparse.Namespace, *, distributed: bool) -> Any:
    """What training and validation share."""
    if distributed and popdist is not None and popdist.isPopdistEnvSet():
        popdist.init()  # the number of replicas and this instance's number come from poprun
        options = popdist.poptorch.Options(ipus_per_replica=STAGES)
    else:
        options = poptorch.Options().replicationFactor(arguments.replicas)
        options.Distributed.disable()
    options.randomSeed(arguments.seed)  # with it, all instances shuffle alike
    options.setExecutionStrategy(poptorch.PipelinedExecution(poptorch.AutoStage.SameAsIpu))
    options.setAvailableMemoryProportion({f"IPU{ipu}": 0.4 for ipu in range(STAGES)})
    options.enableStableNorm(True)
    if arguments.half:
        options.Precision.setPartialsType(torch.half)
    if arguments.cache:
        options.enableExecutableCaching(arguments.cache)
    if arguments.synthetic:
        options.enableSyntheticData(True)  # no transfer to and from the IPU: a speed test
    return options


def training_options(arguments: argparse.Namespace) -> Any:
    options = common_options(arguments, distributed=True)
    options.deviceIterations(arguments.device_iterations)
    # A pipeline of F stages trains in 2 F - 1, and needs at least as many micro-batches in flight.
    options.Training.gradientAccumulation(arguments.gradient_accumulation)
    options.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Mean)
    options.outputMode(poptorch.OutputMode.Sum)  # one number per replica, added up on the device
    options.Precision.enableStochasticRounding(arguments.half)
    options._Popart.set("disableGradAccumulationTensorStreams", True)
    if arguments.anchor:
        options.anchorTensor("gradient", "Gradient___network.head.bias")
    return options


def validation_options(arguments: argparse.Namespace) -> Any:
    options = common_options(arguments, distributed=False)
    options.deviceIterations(max(arguments.device_iterations, STAGES))
    options.outputMode(poptorch.OutputMode.All)
    return options


def loader(options: Any, arguments: argparse.Namespace, count: int, train: bool) -> Any:
    return poptorch.DataLoader(
        options,
        Waves(count, seed=1 if train else 2, dtype=torch.half if arguments.half else torch.float),
        batch_size=arguments.batch_size,
        shuffle=train,
        mode=poptorch.DataLoaderMode.Async,
        async_options={"load_indefinitely": True, "buffer_size": 4},
    )


def validate(model: Any, data: Any) -> float:
    """Percent recognised, on the IPUs that the training model has just left."""
    if model.isCompiled():
        model.attachToDevice()
    hits = torch.cat([model(images).argmax(dim=1) == labels for images, labels in data])
    model.detachFromDevice()
    return 100 * hits.float().mean().item()


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    network = Network(arguments.width)
    if arguments.half:
        network.half()  # before wrapping: weights and activations; the loss stays in float32
    optimizer = poptorch.optim.SGD(
        network.parameters(), lr=arguments.lr, momentum=0.9, weight_decay=1e-4,
        loss_scaling=128.0 if arguments.half else 1.0, use_combined_accum=False,
    )  # fmt: skip
    options = training_options(arguments)
    data = loader(options, arguments, arguments.train_size, train=True)
    steps = arguments.epochs * len(data)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    training = poptorch.trainingModel(WithLoss(network), options, optimizer=optimizer)

    inference = poptorch.inferenceModel(network, validation_options(arguments))
    validation = loader(inference.options, arguments, arguments.test_size, train=False)

    per_replica = arguments.device_iterations * arguments.gradient_accumulation
    for epoch in range(1, arguments.epochs + 1):
        results = []
        for images, labels in data:
            loss, accuracy = training(images, labels)
            results.append([loss.mean().item() / per_replica, accuracy.mean().item() / per_replica])
            schedule.step()
            training.setOptimizer(optimizer)  # only now does the device know of the new rate
        loss, accuracy = torch.tensor(results).mean(dim=0).tolist()
        line = f"epoch {epoch}: loss {loss:.3f}, accuracy {100 * accuracy:.1f}"
        if arguments.anchor:
            line += f", gradient {training.getAnchoredTensor('gradient').abs().max():.4f}"
        training.detachFromDevice()  # the weights come back, the IPUs are free for validation
        network.eval()  # a model is compiled in the mode it is in at its first call
        print(f"{line}, validation accuracy {validate(inference, validation):.1f}")
        network.train()
        training.attachToDevice()
    data.terminate()
    validation.terminate()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A residual CNN in a pipeline over four IPUs")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures per micro-batch")
    parser.add_argument("--gradient-accumulation", type=int, default=8, help="at least 7")
    parser.add_argument("--device-iterations", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1, help="copies of the pipeline")
    parser.add_argument("--width", type=int, default=16, help="channels of the stem")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--train-size", type=int, default=2048, help="pictures per epoch")
    parser.add_argument("--test-size", type=int, default=256, help="pictures per validation")
    parser.add_argument("--half", action="store_true", help="train in float16")
    parser.add_argument("--synthetic", action="store_true", help="transfer no data")
    parser.add_argument("--anchor", action="store_true", help="show a gradient of the device")
    parser.add_argument("--cache", default="", help="folder for compiled programs")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":  # the loader's process imports this file, and must not run it
    main()
