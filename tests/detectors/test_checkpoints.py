"""Checkpoints mark what enters modules, and change no number."""

from __future__ import annotations

from typing import Dict, List, Tuple

import pytest
import torch
from torch import Tensor, nn

from detectors.checkpoints import apply_checkpoints
from poplar_ops.runtime import poptorch


class Net(nn.Module):
    """Three layers, the last of which takes a list."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.ModuleDict({name: nn.Linear(4, 4) for name in "ab"})
        self.network["c"] = Sum()

    def forward(self, x: Tensor) -> Tensor:
        first = self.network["a"](x).tanh()
        return poptorch.identity_loss(
            self.network["c"]([first, self.network["b"](first)]), reduction="sum"
        )


class Sum(nn.Module):
    """Of products."""

    def forward(self, maps: List[Tensor]) -> Tensor:
        return (maps[0] * maps[1]).sum()


def marked_of(monkeypatch: pytest.MonkeyPatch) -> List[Tuple[int, ...]]:
    """Shapes of what is marked from now on."""
    shapes: List[Tuple[int, ...]] = []

    def mark(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    monkeypatch.setattr(poptorch, "recomputationCheckpoint", mark)
    return shapes


def test_the_inputs_of_named_modules_are_marked_in_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes, x = marked_of(monkeypatch), torch.rand(3, 4)
    net = apply_checkpoints(Net(), ["b", "network.c"])
    net.train()(x)
    assert shapes == [(3, 4), (3, 4), (3, 4)]  # of b, and both of c's list
    net.eval()(x)
    assert len(shapes) == 3


def test_a_training_step_changes_the_weights_alike() -> None:
    x = torch.rand(4, 4, generator=torch.Generator().manual_seed(1))
    found: List[Tuple[Tensor, Dict[str, Tensor]]] = []
    for names in ([], ["b", "c"]):
        net = apply_checkpoints(Net(), names)
        executor = poptorch.trainingModel(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
        loss = executor(x)
        executor.copyWeightsToHost()
        found.append((loss, net.state_dict()))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["d"], "pipeline.checkpoints 'd' is no module of Net"),
        (["network"], r"pipeline.checkpoints 'network' is a list .* name one of \['network.a'"),
        (["a", "network.a"], "pipeline.checkpoints has 'network.a' twice"),
    ],
)
def test_names_that_are_no_modules_are_refused(names: List[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        apply_checkpoints(Net(), names)
