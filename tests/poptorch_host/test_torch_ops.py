"""Operators that public programs call through `torch.ops.poptorch`."""

from __future__ import annotations

import torch
from torch import nn

import poptorch_host as poptorch
from poptorch_host import torch_ops


def test_name_scopes_may_begin_and_end_in_hooks() -> None:
    # 1.10: the CNN program names its layers so.
    def begin(module: nn.Module, inputs: object) -> None:
        torch.ops.poptorch.push_name_scope("layer")

    def end(module: nn.Module, inputs: object, outputs: object) -> None:
        torch.ops.poptorch.pop_name_scope()

    torch_ops.define()  # as `import poptorch` does under `python -m poptorch_host`
    torch_ops.define()
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    plain = model(torch.ones(1, 2))
    for module in model.modules():
        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)
    assert torch.equal(poptorch.inferenceModel(model)(torch.ones(1, 2)), plain)
    assert torch.equal(model(torch.ones(1, 2)), plain)  # and outside an executor
