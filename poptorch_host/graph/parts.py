"""A captured model split into its stages, each a module that runs on its own.

The parts run one after another give what `forward` gives, and autograd through them its gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .. import _state
from ..capture.program import Program
from ..tensors.arguments import Arguments
from .exported import export
from .exporter import shapes_only
from .part_module import PartModule, Recipe
from .pieces import cut


@dataclass
class Part:
    """One stage of a model, which runs on its own."""

    module: nn.Module
    """forward(*tensors) -> Tuple[Tensor, ...]; around the parameters and buffers of `tree`."""
    inputs: Tuple[torch.Tensor, ...]
    """Meta tensors as they arrive, `requires_grad` included; the first part's are those of
    forward."""
    outputs: Tuple[torch.Tensor, ...]
    """Meta tensors as they leave."""
    weights: Tuple[str, ...]
    """Names in `tree` of the parameters and buffers it uses."""
    written: Tuple[str, ...]
    """Names of the buffers it changes."""


def split(
    tree: nn.Module,
    program: Program,
    arguments: Arguments,
    *,
    training: bool,
    recompute: bool,
) -> List[Part]:
    """Split a model at the blocks that change the IPU.

    What a later part or the result needs passes through all parts between. Each part runs within
    `_state.running(seed=...)` and the modes of the engine, in training with autograd on; it may run
    for several micro-batches before they go back. Its arguments are never changed.

    Args:
        tree: a module tree with the tensors it runs on.
        program: of its capture.
        arguments: of one micro-batch, as the engine places them (strides count); values of tensors
            are not read.
        training: whether the last part's last output is the loss.
        recompute: keep what arrives at a part and what `recomputationCheckpoint` marks, and compute
            the rest again on the way back.

    Returns:
        the parts in order. The last one's outputs are the flat tensors of forward's result, then in
        training the loss. Where `program.constants` has a result stands what forward made there.
        An output or input that requires a gradient always takes part in autograd, with zeros if
        nothing depends on it.

    Raises:
        poptorch.Error: torch is too old, or the model cannot be split.
    """
    exported = export(tree, program, arguments, training=training)
    plan = cut(exported, program, stages=True, segments=recompute)
    weights = {**dict(tree.named_parameters()), **dict(tree.named_buffers())}
    count = plan.pieces[-1].part + 1
    modules = [
        PartModule(Recipe(exported, plan, program, index, training, recompute), weights)
        for index in range(count)
    ]
    return _with_shapes(modules, exported.inputs)


def whole(tree: nn.Module, program: Program, arguments: Arguments) -> nn.Module:
    """A model in training as one module that recomputes; arguments as those of `split`.

    It keeps what arrives at stages and what `recomputationCheckpoint` marks. Input tensors that
    `forward` changes are changed.

    Returns:
        forward(*tensors) -> the flat tensors of forward's result, then the loss.

    Raises:
        poptorch.Error: torch is too old, or the model cannot be exported.
    """
    exported = export(tree, program, arguments, training=True)
    plan = cut(exported, program, stages=False, segments=True)
    weights = {**dict(tree.named_parameters()), **dict(tree.named_buffers())}
    recipe = Recipe(exported, plan, program, 0, training=True, recompute=True, writes_inputs=True)
    return PartModule(recipe, weights)


def _with_shapes(modules: List[PartModule], inputs: List[fx.Node]) -> List[Part]:
    """Run the modules on fake tensors to see what passes between them."""
    parts: List[Part] = []
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    tensors = [_meta(node.meta["val"], requires_grad=False) for node in inputs]
    for module in modules:
        with torch.inference_mode(False), mode, shapes_only(), _state.running():
            device = module.device
            fakes = [
                torch.empty_like(t, device=device, requires_grad=t.requires_grad) for t in tensors
            ]
            with torch.set_grad_enabled(module.training):
                results = module.shapes(fakes)
            grads = [result.requires_grad for result in results]
        left = [_meta(result, requires_grad=grad) for result, grad in zip(results, grads)]
        module.differentiable = [index for index, grad in enumerate(grads) if grad]
        if parts:  # what travels may have lost them
            module.strides = [tensor.stride() for tensor in tensors]
        parts.append(Part(module, tuple(tensors), tuple(left), module.weights, module.written))
        tensors = left
    return parts


def _meta(tensor: torch.Tensor, *, requires_grad: bool) -> torch.Tensor:
    """A tensor of that shape and, if dense, those strides, without memory."""
    strides = torch.empty_like(tensor.detach()).stride()
    return torch.empty_strided(
        tensor.shape, strides, dtype=tensor.dtype, device="meta", requires_grad=requires_grad
    )
