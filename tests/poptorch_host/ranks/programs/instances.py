"""Claims about two instances: the whole model in each, data of its own, one set of weights."""

from __future__ import annotations

import os
from typing import List

import torch
from torch import Tensor, nn

import poptorch_host as poptorch

RANK = int(os.environ["RANK"])


def train(options: poptorch.Options, batches: List[Tensor]) -> Tensor:
    """The weight after a call for each batch; every process begins elsewhere."""
    model = Regression(RANK)
    optimizer = poptorch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    executor = poptorch.trainingModel(model, options.outputMode(poptorch.OutputMode.All), optimizer)
    for batch in batches:
        executor(batch)
    return model.layer.weight.detach().clone()


class Regression(nn.Module):
    """(B, 4) -> loss (); with dropout."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 1, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the squared sums."""
        return poptorch.identity_loss(self.layer(self.dropout(x)).square(), "mean")


if __name__ == "__main__":
    torch.set_num_threads(1)
    batches = list(torch.rand(3, 4, 2, 4, generator=torch.Generator().manual_seed(7)))
    options = poptorch.Options().randomSeed(1)
    options.Training.gradientAccumulation(2)
    options.Distributed.configureProcessId(RANK, 2)
    mine = [batch[RANK::2].flatten(0, 1) for batch in batches]  # as replica RANK gets them
    together = train(options, mine)
    if RANK == 0:  # the model that both began with
        from poptorch_host import host

        host.configure(schedule="sequential")
        alone = poptorch.Options().randomSeed(1).replicationFactor(2)
        alone.Training.gradientAccumulation(2)
        torch.testing.assert_close(together, train(alone, [b.flatten(0, 1) for b in batches]))
    everywhere = [torch.empty_like(together) for _ in range(2)]
    torch.distributed.all_gather(everywhere, together)
    assert torch.equal(*everywhere)
    print("all claims hold", flush=True)
