"""A vision transformer in a pipeline over four IPUs, with what fits a large one into their memory.

    python -m poptorch_host examples/vit.py      # on any machine
    python examples/vit.py                       # with the Poplar SDK, on four IPUs

A picture is noise with a bright disc somewhere in it; its class is the cell of a 4 x 4 grid where
the disc is, so the transformer has to learn what its position embeddings mean.
"""

from __future__ import annotations

import argparse
import math
import warnings
from typing import Any, List, Tuple

import poptorch
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

# PopTorch's optimizers step on the device, where a schedule's check cannot see it.
warnings.filterwarnings("ignore", message="Detected call of .lr_scheduler.step")

SIZE, PATCH, GRID = 32, 8, 4  # pixels of a picture, pixels of a patch, cells of a side
CLASSES = GRID * GRID
IPUS = 4


class Discs(Dataset[Tuple[Tensor, int]]):
    """Pictures (3, SIZE, SIZE) with labels below CLASSES; another seed, other pictures."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        label = index % CLASSES
        cell = SIZE / GRID
        inside = 0.25 + 0.5 * torch.rand(2, generator=generator)  # of the cell, not near its edge
        y, x = cell * (label // GRID + inside[0]), cell * (label % GRID + inside[1])
        rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        disc = ((rows - y) ** 2 + (columns - x) ** 2 < (0.4 * cell) ** 2).float()
        colour = 1 + torch.rand(3, 1, 1, generator=generator)
        return colour * disc + 0.4 * torch.randn(3, SIZE, SIZE, generator=generator), label


class Embedding(nn.Module):
    """(B, 3, SIZE, SIZE) -> (B, 1 + patches, width): a class token, then one token per patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (SIZE // PATCH) ** 2, width))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        token = self.token.expand(len(images), -1, -1)
        return torch.cat([token, patches], dim=1) + self.positions


class Layer(nn.Module):
    """Self-attention and two linear layers, each around a skip connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.before_attention(x)).reshape(batch, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(
            0
        )  # (B, heads, tokens, width / heads)
        weights: Tensor = (query @ key.transpose(-2, -1) / math.sqrt(key.shape[-1])).softmax(dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(batch, tokens, width))
        result: Tensor = x + self.mlp(self.before_mlp(x))
        return result


class VisionTransformer(nn.Module):
    """With labels it returns (loss, logits), without them logits: one module for both wrappers."""

    def __init__(self, width: int, heads: int, layers_per_ipu: List[int]) -> None:
        super().__init__()
        self.embedding = Embedding(width)
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(sum(layers_per_ipu))])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

        # Blocks of one name are one stage: its layers run on one IPU, one after the other.
        poptorch.BeginBlock(self.embedding, "ipu0", ipu_id=0)
        ipus = [ipu for ipu, count in enumerate(layers_per_ipu) for _ in range(count)]
        for layer, ipu in zip(self.layers, ipus):
            poptorch.BeginBlock(layer, f"ipu{ipu}", ipu_id=ipu)
            layer.register_forward_hook(keep_output)

    def forward(self, images: Tensor, labels: Any = None) -> Any:
        x = self.embedding(images)
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x)[:, 0])
        if labels is None:
            return logits
        return nn.functional.cross_entropy(logits, labels), logits


def keep_output(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A pipeline in training computes activations again on the way back, from those kept here."""
    kept: Tensor = poptorch.recomputationCheckpoint(output)
    return kept


def make_options(arguments: argparse.Namespace, *, train: bool) -> Any:
    options = poptorch.Options().replicationFactor(arguments.replicas).randomSeed(arguments.seed)
    options.outputMode(poptorch.OutputMode.All)  # the logits of every micro-batch, for the accuracy
    options.autoRoundNumIPUs(True)
    # A stage for every new name of a block, in order.
    strategy = poptorch.PipelinedExecution(poptorch.AutoStage.AutoIncrement)
    options.setExecutionStrategy(strategy)
    options.deviceIterations(arguments.device_iterations if train else IPUS)
    if not train:
        return options
    options.Training.gradientAccumulation(arguments.gradient_accumulation)
    # The mean over micro-batches, kept as a running mean: half accumulators do not overflow.
    options.Training.accumulationAndReplicationReductionType(poptorch.ReductionType.Mean)
    options.Training.setMeanAccumulationAndReplicationReductionStrategy(
        poptorch.MeanReductionStrategy.Running
    )
    # Adam's two moments wait in the host's memory between updates; replicas share the work.
    options.TensorLocations.setOptimizerLocation(
        poptorch.TensorLocationSettings()
        .useOnChipStorage(False)
        .useReplicatedTensorSharding(arguments.replicas > 1)
    )
    return options


def loader(options: Any, arguments: argparse.Namespace, count: int, train: bool) -> Any:
    """Pictures fetched a few at a time; the loader's process makes whole batches of them."""
    return poptorch.DataLoader(
        options,
        Discs(count, seed=1 if train else 2),
        batch_size=arguments.batch_size,
        shuffle=train,
        num_workers=arguments.workers,
        mode=poptorch.DataLoaderMode.AsyncRebatched,
        rebatched_worker_size=4,
    )


def warm_up(step: int) -> float:
    """Factor of the learning rate: up over 10 steps, then as one over the root of their number."""
    return min((step + 1) / 10, math.sqrt(10 / (step + 1)))


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    model = VisionTransformer(arguments.width, arguments.heads, arguments.layers_per_ipu).train()
    optimizer = poptorch.optim.AdamW(
        model.parameters(), lr=arguments.lr, weight_decay=0.01,
        loss_scaling=arguments.loss_scaling, accum_type=torch.float16,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up)
    options = make_options(arguments, train=True)
    training = poptorch.trainingModel(model, options, optimizer=optimizer)
    data = loader(options, arguments, arguments.train_size, train=True)
    for epoch in range(1, arguments.epochs + 1):
        losses, hits = [], []
        for images, labels in data:
            loss, logits = training(images, labels)
            losses.append(loss.mean())
            hits.append((logits.argmax(dim=1) == labels).float().mean())
            schedule.step()
            training.setOptimizer(optimizer)
        loss, accuracy = (torch.stack(each).mean().item() for each in (losses, hits))
        print(f"epoch {epoch}: loss {loss:.3f}, accuracy {100 * accuracy:.1f}")
    data.terminate()
    training.detachFromDevice()

    model.eval()
    inference = poptorch.inferenceModel(model, make_options(arguments, train=False))
    data = loader(inference.options, arguments, arguments.test_size, train=False)
    hit = torch.cat([inference(images).argmax(dim=1) == labels for images, labels in data])
    data.terminate()
    print(f"accuracy on {len(hit)} unseen pictures: {100 * hit.float().mean().item():.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A vision transformer in a pipeline of four IPUs")
    parser.add_argument("--batch-size", type=int, default=4, help="pictures per micro-batch")
    parser.add_argument("--gradient-accumulation", type=int, default=8, help="at least 7")
    parser.add_argument("--device-iterations", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1, help="copies of the pipeline")
    parser.add_argument("--width", type=int, default=64, help="numbers per token")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers-per-ipu", type=int, nargs=IPUS, default=[1, 2, 2, 1])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--loss-scaling", type=float, default=64.0)
    parser.add_argument("--train-size", type=int, default=2048, help="pictures per epoch")
    parser.add_argument("--test-size", type=int, default=512, help="pictures for the test")
    parser.add_argument("--workers", type=int, default=0, help="further processes that load")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":  # the loader's process imports this file, and must not run it
    main()
