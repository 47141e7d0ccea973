"""Every implementation of an operator behind one signature: each test runs on all of them."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Optional

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import library, plain, reference
from poplar_ops.nms import Detections, run_compiled
from poplar_ops.runtime import poptorch
from poplar_ops.topk import Selection
from poplar_ops.topk import run_compiled as run_compiled_topk

Nms = Callable[..., Detections]
TopK = Callable[[Tensor, int], Selection]


@pytest.fixture
def need_library() -> None:
    """Skip where the C++ library was not built."""
    if library.LIBRARY is None:
        pytest.skip("the compiled library is not in use: build it with `pip install -e .`")


def with_defaults(function: Callable[..., Any]) -> Nms:
    """Give an implementation the public operator's signature."""

    def nms(
        scores: Tensor,
        boxes: Tensor,
        labels: Optional[Tensor] = None,
        *,
        iou_threshold: float = 0.5,
        score_threshold: float = 0.0,
        max_detections: int = 100,
        class_aware: bool = True,
        sigma: float = 0.0,
    ) -> Detections:
        if scores.dim() == 2:
            scores = scores.unsqueeze(2)
        if labels is None:
            labels = torch.zeros(scores.shape[:2], dtype=torch.int32)
        settings = (iou_threshold, score_threshold, max_detections, class_aware, sigma)
        tensors = (scores.float().contiguous(), boxes.float().contiguous(), labels.int())
        return Detections(*function(*tensors, *settings))

    return nms


def in_executor(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function of tensors as a model on the host runtime."""

    def call(*tensors: Tensor, **settings: Any) -> Any:
        class Model(torch.nn.Module):
            def forward(self, *inputs: Tensor) -> Any:
                return tuple(function(*inputs, **settings))

        return poptorch.inferenceModel(Model(), poptorch.Options())(*tensors)

    return call


@pytest.fixture(params=["poplar_ops", "executor", "ctypes", "plain", "reference"])
def any_nms(request: pytest.FixtureRequest) -> Nms:
    """The operator, and what may stand behind it."""
    if request.param == "executor":
        return lambda *t, **s: Detections(*in_executor(poplar_ops.nms)(*t, **s))
    if request.param == "ctypes":
        request.getfixturevalue("need_library")
        return with_defaults(run_compiled)
    if request.param == "plain":
        return with_defaults(plain.nms)
    return poplar_ops.nms if request.param == "poplar_ops" else with_defaults(reference.nms)


@pytest.fixture(params=["poplar_ops", "ctypes", "plain", "reference"])
def any_topk(request: pytest.FixtureRequest) -> TopK:
    """As `any_nms`, for float32 rows."""
    if request.param == "ctypes":
        request.getfixturevalue("need_library")
        return lambda x, k: Selection(*run_compiled_topk(x, k))
    if request.param == "plain":
        return lambda x, k: Selection(*plain.topk_select(x, k))
    if request.param == "reference":
        return lambda x, k: Selection(*reference.topk_select(x, k))
    return poplar_ops.topk_select


@pytest.fixture(params=library.SIMD_LEVELS)
def simd_level(request: pytest.FixtureRequest, need_library: None) -> Iterator[str]:
    """One instruction set after the other."""
    best = library.simd()
    try:
        library.set_simd(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield request.param
    library.set_simd(best)
