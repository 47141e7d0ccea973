"""Which tensor a training model differentiates, and what it refuses (2.3)."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host

pytestmark = pytest.mark.usefixtures("one_thread")


class Scale(nn.Module):
    """weight * x, handed to a function that computes the results."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x * self.weight)


def train(function: Callable[[Tensor], Any], x: Tensor) -> float:
    """The weight after one step at rate 1 from 2.0."""
    model = Scale(function)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    poptorch.trainingModel(model, optimizer=optimizer)(x)
    return float(model.weight.item())


ONES = torch.ones(4)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sum", 2.0 - 4.0), ("mean", 2.0 - 1.0)],  # d(sum of w * 1)/dw = 4, of the mean 1
)
def test_identity_loss_reduces_and_is_differentiated(reduction: str, expected: float) -> None:
    assert train(lambda y: poptorch.identity_loss(y, reduction), ONES) == expected


def test_a_loss_of_one_element_needs_no_reduction() -> None:
    # As YOLOv4 does: shape [1], reduction "none"; it is returned in that shape.
    model = Scale(lambda y: poptorch.identity_loss(y * 3, "none"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = poptorch.trainingModel(model, optimizer=optimizer)(torch.ones(1))
    assert loss.shape == (1,)
    assert model.weight.item() == 2.0 - 3.0


def test_torch_losses_are_recognised_and_need_not_be_returned() -> None:
    # loss = mean((w - 0)**2), derivative 2w = 4
    def function(y: Tensor) -> Tensor:
        F.mse_loss(y, torch.zeros_like(y))
        return y

    assert train(function, ONES) == 2.0 - 4.0


LOSSES: List[Callable[[Tensor], Tensor]] = [
    lambda y: F.l1_loss(y, y.detach() * 0),
    lambda y: F.smooth_l1_loss(y, y.detach() * 0),
    lambda y: F.cross_entropy(y, y.detach().argmin(1)),
    lambda y: F.nll_loss(F.log_softmax(y, 1), y.detach().argmin(1)),
    lambda y: F.binary_cross_entropy(y.sigmoid(), (y.detach() > 0).float()),
    lambda y: F.binary_cross_entropy_with_logits(y, (y.detach() > 0).float()),
    lambda y: F.kl_div(F.log_softmax(y, 1), y.detach().softmax(1) * 0.5, reduction="batchmean"),
    lambda y: F.poisson_nll_loss(y, y.detach().abs()),
    lambda y: F.hinge_embedding_loss(y, y.detach().sign()),
    lambda y: F.soft_margin_loss(y, y.detach().sign()),
    lambda y: F.multilabel_soft_margin_loss(y, (y.detach() > 0).float()),
    lambda y: F.cosine_embedding_loss(y, y.flip(0), y.detach()[:, 0].sign()),
    lambda y: F.margin_ranking_loss(y[:, 0], y[:, 1], y.detach()[:, 0].sign()),
    lambda y: F.triplet_margin_loss(y, y.flip(0), y * 2),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_a_torch_loss_is_torch_s(loss: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([[0.3, -0.2, 0.5], [-0.4, 0.1, 0.2]])
    plain = Scale(loss)
    plain(x).backward()
    assert plain.weight.grad is not None
    expected = 2.0 - plain.weight.grad.item()
    assert train(loss, x) == pytest.approx(expected, rel=1e-5)


def test_losses_that_feed_another_are_no_candidates() -> None:
    def function(y: Tensor) -> Any:
        first = F.mse_loss(y, torch.zeros_like(y))  # w**2
        second = F.l1_loss(y, torch.zeros_like(y), reduction="none")  # |w|, not reduced
        total = torch.stack([first, second.sum()])
        return poptorch.identity_loss(total.mean(), "mean"), first.detach()

    # derivative of (w**2 + 4 |w|) / 2: w + 2
    assert train(function, ONES) == 2.0 - (2.0 + 2.0)


def test_the_final_loss_may_stand_between_others() -> None:
    def function(y: Tensor) -> Tensor:
        inner = poptorch.identity_loss(y, "mean")
        return poptorch.identity_loss(inner * 5, "sum") + 0 * y.detach().sum()

    assert train(function, ONES) == 2.0 - 5.0


def test_a_loss_written_into_a_buffer_of_results_is_followed() -> None:
    def function(y: Tensor) -> Tensor:
        results = torch.zeros(2, device=y.device)
        results[0] = F.mse_loss(y, torch.zeros_like(y))
        return poptorch.identity_loss(results, "sum")

    assert train(function, ONES) == 2.0 - 4.0


def test_a_loss_through_a_custom_operator_is_followed() -> None:
    host.register_custom_op("test.losses", "Double", lambda inputs, _: [inputs[0] * 2])

    def function(y: Tensor) -> Tensor:
        inner = F.mse_loss(y, torch.zeros_like(y))
        (doubled,) = poptorch.custom_op([inner], "Double", "test.losses", 1, [inner])
        return poptorch.identity_loss(doubled, "none")

    assert train(function, ONES) == 2.0 - 8.0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y: y.sum(), r"Couldn't find a loss in graph!"),
        (lambda y: F.huber_loss(y, y * 0), "huber_loss.*use smooth_l1_loss"),
        (
            lambda y: F.mse_loss(y, y * 0) + F.l1_loss(y, y * 0),
            r"Multiple independent losses found in graph\. Graph must have one final loss\. Wrap"
            r" final graph loss in poptorch\.identity_loss\.",
        ),
        (
            lambda y: F.mse_loss(y, y * 0, reduction="none"),
            r"Loss tensor, 'mse_loss', must be a scalar tensor.*\[4\]",
        ),
        (
            lambda y: poptorch.for_loop(2, lambda v: v * 2, [y]),
            r"poptorch\.for_loop\(\) is only supported in inference\.",
        ),
        (
            lambda y: poptorch.cond(y.sum() > 0, lambda v: v, [y], lambda v: v, [y]),
            r"poptorch\.cond\(\) is only supported in inference\.",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_at_compile(function: Any, words: str) -> None:
    with pytest.raises(poptorch.Error, match=words):
        poptorch.trainingModel(Scale(function)).compile(ONES)


def test_a_loss_without_a_parameter_is_refused() -> None:
    executor = poptorch.trainingModel(Scale(lambda y: poptorch.identity_loss(y.detach(), "sum")))
    with pytest.raises(poptorch.Error, match="depends on no parameter that requires a gradient"):
        executor(ONES)


def test_inference_needs_no_loss() -> None:
    assert poptorch.inferenceModel(Scale(lambda y: y.sum()))(ONES).item() == 8.0


def test_ctc_loss_reads_its_lengths_from_tensors() -> None:  # 2.3
    torch.manual_seed(0)
    logs = torch.randn(6, 2, 4)
    targets, lengths = torch.tensor([[1, 2], [3, 1]]), (torch.tensor([6, 5]), torch.tensor([2, 1]))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, logs: Tensor, targets: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
            return F.ctc_loss(F.log_softmax(logs * self.scale, -1), targets, own, wanted)

    model, expected = Model(), Model()
    executor = poptorch.trainingModel(model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    loss = executor(logs, targets, *lengths)
    expected(logs, targets, *lengths).backward()
    torch.testing.assert_close(loss, expected(logs, targets, *lengths).detach())
    assert expected.scale.grad is not None
    torch.testing.assert_close(model.scale.detach(), 1.5 - expected.scale.grad)


def test_max_pool1d_trains() -> None:  # 3: autograd keeps its indices, which nobody reads
    def function(y: Tensor) -> Tensor:
        return poptorch.identity_loss(F.max_pool1d(y[None, None], 2), "sum")

    assert train(function, torch.tensor([1.0, 2.0, 3.0, 4.0])) == 2.0 - 6.0

    def reads_indices(y: Tensor) -> Tensor:
        indices: Tensor = F.max_pool1d(y[None], 4, return_indices=True)[1]
        return poptorch.identity_loss(y * indices, "sum")

    with pytest.raises(poptorch.Error, match="the indices output is not supported"):
        train(reads_indices, ONES)
