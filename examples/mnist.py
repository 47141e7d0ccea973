"""A small CNN learns digits: PopTorch in its simplest form, on one IPU.

    python -m poptorch_host examples/mnist.py    # on any machine
    python examples/mnist.py                     # with the Poplar SDK

The digits are drawn by this program, each a little displaced, in varying strength and in noise.
"""

from __future__ import annotations

import argparse
from typing import Any, Tuple

import poptorch
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

GLYPHS = {  # 5 x 7 pixels, row by row
    0: "01110 10001 10011 10101 11001 10001 01110",
    1: "00100 01100 00100 00100 00100 00100 01110",
    2: "01110 10001 00001 00010 00100 01000 11111",
    3: "11111 00010 00100 00010 00001 10001 01110",
    4: "00010 00110 01010 10010 11111 00010 00010",
    5: "11111 10000 11110 00001 00001 10001 01110",
    6: "00110 01000 10000 11110 10001 10001 01110",
    7: "11111 00001 00010 00100 01000 01000 01000",
    8: "01110 10001 10001 01110 10001 10001 01110",
    9: "01110 10001 10001 01111 00001 00010 01100",
}


class Digits(Dataset[Tuple[Tensor, int]]):
    """`count` pictures (1, 28, 28) of digits with their labels; another seed, other pictures."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        rows = [[[float(bit) for bit in row] for row in GLYPHS[d].split()] for d in range(10)]
        self.glyphs = torch.tensor(rows).repeat_interleave(3, 1).repeat_interleave(3, 2)  # 21 x 15

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        label = index % 10
        top, left = (int(torch.randint(0, n, (), generator=generator)) for n in (8, 14))
        strength = 0.5 + torch.rand((), generator=generator)
        image = 0.3 * torch.randn(1, 28, 28, generator=generator)
        image[0, top : top + 21, left : left + 15] += strength * self.glyphs[label]
        return image, label


class Network(nn.Module):
    """Two convolutions and two linear layers: (B, 1, 28, 28) -> logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.ReLU(),  # (B, 8, 12, 12)
            nn.Conv2d(8, 16, 5), nn.MaxPool2d(2), nn.ReLU(),  # (B, 16, 4, 4)
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


class WithLoss(nn.Module):
    """A training model computes its loss in `forward`: what PopTorch compiles is one whole step."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
        logits = self.network(images)
        return logits, nn.functional.cross_entropy(logits, labels)


def loader(
    options: poptorch.Options, arguments: argparse.Namespace, count: int, seed: int, shuffle: bool
) -> Any:
    """Batches as large as one call consumes, drawn ahead by a process of their own."""
    return poptorch.DataLoader(
        options,
        Digits(count, seed),
        batch_size=arguments.batch_size,
        shuffle=shuffle,
        mode=poptorch.DataLoaderMode.Async,
        async_options={"early_preload": True},
    )


def correct(logits: Tensor, labels: Tensor) -> int:
    """How many of the pictures are recognised."""
    return int((logits.argmax(dim=1) == labels).sum())


def train(network: nn.Module, arguments: argparse.Namespace) -> None:
    # One call runs `deviceIterations` steps, each with an update, without returning to the host.
    # The default would return the last step's outputs only; All returns every step's.
    options = poptorch.Options().deviceIterations(arguments.device_iterations)
    options.outputMode(poptorch.OutputMode.All).randomSeed(arguments.seed)

    kinds = {"sgd": poptorch.optim.SGD, "adam": poptorch.optim.Adam}
    optimizer = kinds[arguments.optimizer](network.parameters(), lr=arguments.lr)
    model = poptorch.trainingModel(WithLoss(network), options, optimizer=optimizer)
    data = loader(options, arguments, arguments.train_size, seed=1, shuffle=True)
    for epoch in range(1, arguments.epochs + 1):
        losses, hits, seen = [], 0, 0
        for images, labels in data:
            logits, loss = model(images, labels)  # the first call compiles
            losses.append(loss.mean().item())
            hits, seen = hits + correct(logits, labels), seen + len(labels)
        print(
            f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}, accuracy {100 * hits / seen:.1f}"
        )
    data.terminate()
    model.detachFromDevice()  # the weights come back to `network`, the IPU is free


def test(network: nn.Module, arguments: argparse.Namespace) -> None:
    network.eval()  # PopTorch takes the mode a module is in when it is compiled
    options = poptorch.Options().deviceIterations(arguments.device_iterations)
    model = poptorch.inferenceModel(network, options)
    data = loader(options, arguments, arguments.test_size, seed=2, shuffle=False)
    results = [(correct(model(images), labels), len(labels)) for images, labels in data]
    data.terminate()
    model.detachFromDevice()
    hits, seen = (sum(column) for column in zip(*results))
    print(f"accuracy on {seen} unseen digits: {100 * hits / seen:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="PopTorch in its simplest form")
    parser.add_argument("--batch-size", type=int, default=16, help="pictures per micro-batch")
    parser.add_argument("--device-iterations", type=int, default=10, help="steps per call")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="adam")
    parser.add_argument("--train-size", type=int, default=4000, help="pictures per epoch")
    parser.add_argument("--test-size", type=int, default=800, help="pictures for the test")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)  # of the weights; `randomSeed` is for the device
    network = Network()
    train(network, arguments)
    test(network, arguments)


if __name__ == "__main__":  # the loader's process imports this file, and must not run it
    main()
