"""PopTorch's own operators compute the same in a model that is split into stages (1.6, 2.15)."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host.graph.exported import NEEDS

HAS_EXPORT = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= NEEDS
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        not HAS_EXPORT, reason=f"stages need torch >= {NEEDS[0]}.{NEEDS[1]} (torch.export)"
    ),
]


def chosen(x: Tensor) -> List[Tensor]:
    return poptorch.cond(x.sum() > 0, lambda a: a.mul_(2) + x, [x], lambda a: a - 1, [x])


def looped(x: Tensor) -> List[Tensor]:
    outer = x * 1
    return [*poptorch.for_loop(3, lambda a: a.add_(outer), [x]), outer]


def decoded(x: Tensor) -> List[Tensor]:
    logs = x.view(3, 1, 4).log_softmax(2)
    lengths = (x[0, :1] * 0 + 3).int()
    return poptorch.ctc_beam_search_decoder(logs, lengths, beam_width=5, top_paths=2)


def clouds(x: Tensor) -> List[Tensor]:
    centres = poptorch.fps(x, [0, 3], 0.5)
    return [centres, poptorch.nearest(x, x.index_select(0, centres))]


FUNCTIONS: Dict[str, Callable[[Tensor], Any]] = {
    "CPU": lambda x: poptorch.CPU(lambda y: torch.from_numpy(y.numpy()[::-1].copy()), "flip")(x),
    "cond": chosen,
    "for_loop": looped,
    "ctc_beam_search_decoder": decoded,
    "fps and nearest": clouds,
    "dynamic_slice": lambda x: poptorch.dynamic_slice(x, 1, x[0, 0].int(), 2, 1),
    "serializedMatMul": lambda x: poptorch.serializedMatMul(
        x, x.t(), poptorch.MatMulSerializationMode.ReducingDim, 2
    ),
}


class Net(nn.Module):
    """A layer on each of two IPUs, and a function on the first and on the second."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        poptorch.Block.start(ipu_id=0)
        y = self.a(x)
        first = self.function(y)
        poptorch.Block.start(ipu_id=1)
        return first, self.function(self.b(y) + 1), y


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_stages_compute_what_one_process_does(name: str, stages: Callable[..., Any]) -> None:
    x = torch.arange(12.0).view(3, 4) / 6 - 1
    both = stages(Net(FUNCTIONS[name]), x, training=False)
    assert len(both.split()) == 2
    for factor in (1.0, -1.0):  # whatever the export saw
        expected = both.run_eager(x * factor)
        for one, other in zip(both.run_parts(x * factor), expected):
            torch.testing.assert_close(one, other)


def test_bodies_that_write_outside_stay_in_one_process(stages: Callable[..., Any]) -> None:
    def writes(x: Tensor) -> Any:
        outer = x * 1
        return poptorch.for_loop(2, lambda a: a + outer.add_(1), [x])

    both = stages(Net(writes), torch.ones(3, 4), training=False)
    with pytest.raises(poptorch.Error, match="writes into tensors from outside cannot be split"):
        both.split()
