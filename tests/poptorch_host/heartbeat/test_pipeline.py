"""A fault of a model's stage ends its pipeline."""

from __future__ import annotations

from typing import List

import pytest

from tests.poptorch_host.heartbeat.forked_ranks import Ranks

MODEL = """
import poptorch_host as poptorch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(size))
    def forward(self, x, target):
        for stage, layer in enumerate(self.layers):
            with poptorch.Block(ipu_id=stage):
                x = layer(x).relu()
                if stage == size - 1:
                    return x, torch.nn.functional.mse_loss(x, target)
options = poptorch.Options().autoRoundNumIPUs(True)
options.Training.gradientAccumulation(2 * size - 1)
torch.manual_seed(0)
whole = Model()
model = poptorch.trainingModel(whole, options, torch.optim.SGD(whole.parameters(), lr=0.1))
def train(step):
    if FAULT == "error" and rank == 1 and step == 3:
        raise ValueError("picture 7 is broken")
    model(torch.ones(2 * size - 1, 4), torch.ones(2 * size - 1, 4))
    if FAULT == "kill" and rank == 1 and step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
for step in range(5):
    train(step)
print("trained")
"""


@pytest.mark.parametrize(
    ("fault", "codes", "words"),
    [
        ("kill", [1, -9, 1], "rank 1 (stage 1 of 0-2, replica 0) was killed"),
        ("error", [1, 1, 1], "rank 1 (stage 1 of 0-2, replica 0) failed: ValueError: picture 7"),
    ],
)
def test_a_fault_of_a_stage_ends_the_pipeline(
    ranks: Ranks, fault: str, codes: List[int], words: str
) -> None:
    pytest.importorskip("poptorch_host.ranks.pipeline", reason="torch without these pipelines")
    result = ranks(f"FAULT = {fault!r}\n{MODEL}")
    assert result.codes == codes, result.output
    assert words in result.message()
