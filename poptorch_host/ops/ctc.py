"""`ctc_beam_search_decoder`: the likeliest label sequences, temporally classified.

T time steps, B samples, C classes, W beams, P paths.
"""

from __future__ import annotations

import math
from typing import Dict, List, Tuple

import torch
from torch import Tensor

from .. import _state
from ..errors import createPoptorchError
from . import leaf

NOTHING = -1
"""Fills a path behind its end."""

Path = Tuple[int, ...]


def ctc_beam_search_decoder(
    probs: Tensor, lengths: Tensor, blank: int = 0, beam_width: int = 100, top_paths: int = 1
) -> List[Tensor]:
    """Prefix beam search (arXiv:1408.2873, algorithm 1, without a language model). Inference only.

    Args:
        probs: (T, B, C) log probabilities, float32 or float16.
        lengths: (B,) integers, time steps of each sample; what lies behind is not looked at.
        blank: the class that stands for no label.
        beam_width: prefixes that are kept at each step.
        top_paths: paths that are returned, at most `beam_width`.

    Returns:
        [log probabilities (B, P) as `probs`, lengths (B, P) int32, paths (B, P, T) int32], the
        likeliest path first; paths are filled up with -1, and a path that does not exist has length
        0 and log probability -inf.

    Raises:
        poptorch.Error: no tensors, other shapes, numbers out of range, or the model is trained.
    """
    _check(probs, lengths, blank, beam_width, top_paths)
    steps, samples, _ = probs.shape
    results = [
        leaf.Result((samples, top_paths), probs.dtype),
        leaf.Result((samples, top_paths), torch.int32),
        leaf.Result((samples, top_paths, steps), torch.int32),
    ]

    def compute(inputs: List[Tensor]) -> List[Tensor]:
        probs, lengths = inputs
        scores = torch.full((samples, top_paths), -math.inf, dtype=torch.float32)
        sizes = torch.zeros((samples, top_paths), dtype=torch.int32)
        paths = torch.full((samples, top_paths, steps), NOTHING, dtype=torch.int32)
        values = probs.detach().to("cpu", torch.float32)
        for sample, length in enumerate(lengths.tolist()):
            found = _search(values[:length, sample], blank, beam_width)
            for position, (path, score) in enumerate(found[:top_paths]):
                scores[sample, position] = score
                sizes[sample, position] = len(path)
                paths[sample, position, : len(path)] = torch.tensor(path, dtype=torch.int32)
        to = probs.device
        return [scores.to(to, probs.dtype), sizes.to(to), paths.to(to)]

    return leaf.call("ctc_beam_search_decoder", [probs, lengths], results, compute)


def _search(logs: Tensor, blank: int, width: int) -> List[Tuple[Path, float]]:
    """Label sequences of one sample with their log probabilities, the likeliest first.

    Args:
        logs: (T, C) log probabilities.
    """
    classes = logs.shape[1]
    paths: List[Path] = [()]
    with_blank = torch.zeros(1)  # (W,) log probability of the path, its last step a blank
    without = torch.full((1,), -math.inf)  # (W,) its last step a label
    for log in logs:
        if not paths:  # nothing is possible
            break
        total = torch.logaddexp(with_blank, without)
        last = torch.tensor([path[-1] if path else blank for path in paths])
        # 1. Keep each path: a blank, or its last label once more.
        kept_with_blank = total + log[blank]
        kept_without = without + log[last]
        # 2. Make each path longer by one label; the same label needs a blank between.
        longer = total.unsqueeze(1) + log  # (W, C)
        rows = torch.arange(len(paths))
        longer[rows, last] = with_blank + log[last]
        longer[:, blank] = -math.inf
        # 3. A longer path that is among those kept is the same path.
        numbers: Dict[Path, int] = {path: number for number, path in enumerate(paths)}
        for number, path in enumerate(paths):
            parent = numbers.get(path[:-1]) if path else None
            if parent is not None:
                same = longer[parent, path[-1]].clone()
                kept_without[number] = torch.logaddexp(kept_without[number], same)
                longer[parent, path[-1]] = -math.inf
        # 4. The likeliest go on; of equal ones those kept first.
        scores = torch.cat([torch.logaddexp(kept_with_blank, kept_without), longer.reshape(-1)])
        order = torch.sort(scores, descending=True, stable=True).indices[:width]
        order = order[scores[order] > -math.inf]
        with_blank = torch.cat([kept_with_blank, torch.full((longer.numel(),), -math.inf)])[order]
        without = torch.cat([kept_without, longer.reshape(-1)])[order]
        paths = [_path(number, paths, classes) for number in order.tolist()]
    return list(zip(paths, torch.logaddexp(with_blank, without).tolist()))


def _path(candidate: int, paths: List[Path], classes: int) -> Path:
    if candidate < len(paths):  # kept
        return paths[candidate]
    parent, label = divmod(candidate - len(paths), classes)
    return (*paths[parent], label)


def _check(probs: object, lengths: object, blank: int, beam_width: int, top_paths: int) -> None:
    name = "ctc_beam_search_decoder"
    for what, value in (("probs", probs), ("lengths", lengths)):
        if not isinstance(value, Tensor):
            raise createPoptorchError(
                f"{name}: {what} must be a torch.tensor argument, got {type(value).__name__}"
            )
    assert isinstance(probs, Tensor) and isinstance(lengths, Tensor)
    if _state.losses() is not None:
        raise createPoptorchError(f"poptorch.{name}() is only supported in inference.")
    if probs.dim() != 3 or tuple(lengths.shape) != (probs.shape[1],):
        raise createPoptorchError(
            f"{name}: probs must be (T, B, C) and lengths (B,), got {list(probs.shape)} and"
            f" {list(lengths.shape)}"
        )
    if not 0 <= blank < probs.shape[2]:
        raise createPoptorchError(f"{name}: blank={blank} is none of {probs.shape[2]} classes")
    if not 1 <= top_paths <= beam_width:
        raise createPoptorchError(
            f"{name}: top_paths must be from 1 to beam_width={beam_width}, got {top_paths}"
        )
