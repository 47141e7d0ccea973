"""The beam search agrees with a sum over all alignments where its beams hold every path (1.6)."""

from __future__ import annotations

import itertools
import math
from typing import Any, Callable, Dict, List, Tuple

import pytest
import torch
from torch import Tensor, nn

import poptorch_host as poptorch

Path = Tuple[int, ...]
untyped: Any = poptorch  # for mistakes that mypy would find


def likelihoods(logs: Tensor, blank: int) -> Dict[Path, float]:
    """Every label sequence with its probability: all C**T alignments, collapsed and summed."""
    found: Dict[Path, float] = {}
    for alignment in itertools.product(range(logs.shape[1]), repeat=logs.shape[0]):
        labels = tuple(label for label, _ in itertools.groupby(alignment) if label != blank)
        probability = math.exp(sum(float(logs[t, c]) for t, c in enumerate(alignment)))
        found[labels] = found.get(labels, 0.0) + probability
    return found


def example(steps: int, samples: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(steps, samples, classes, generator=generator).mul(2).log_softmax(2)


def path_of(paths: Tensor, length: Tensor) -> Path:
    return tuple(paths[: int(length)].tolist())


def test_two_steps_by_hand() -> None:
    # Labels a = 1, blank 0, 0.4 and 0.6 twice: "" 0.16, "a" 0.24 + 0.24 + 0.36.
    logs = torch.tensor([[[0.4, 0.6]], [[0.4, 0.6]]]).log()
    probs, lengths, paths = poptorch.ctc_beam_search_decoder(
        logs, torch.tensor([2]), beam_width=2, top_paths=2
    )
    torch.testing.assert_close(probs.exp(), torch.tensor([[0.84, 0.16]]))
    assert lengths.tolist() == [[1, 0]]
    assert paths.tolist() == [[[1, -1], [-1, -1]]]


@pytest.mark.parametrize("blank", [0, 2])
def test_wide_beams_find_the_likeliest_sequences(blank: int) -> None:
    logs, top = example(5, 3, 3), 4
    lengths = torch.tensor([5, 3, 4])
    result = poptorch.ctc_beam_search_decoder(logs, lengths, blank, 200, top)
    for sample, length in enumerate(lengths.tolist()):
        expected = likelihoods(logs[:length, sample], blank)
        best: List[Path] = sorted(expected, key=lambda path: -expected[path])[:top]
        paths = [path_of(result[2][sample, k], result[1][sample, k]) for k in range(top)]
        assert paths == best
        values = torch.tensor([expected[path] for path in best])
        torch.testing.assert_close(result[0][sample].exp(), values)


def test_a_narrow_beam_gives_a_lower_bound() -> None:
    logs = example(5, 1, 3)
    (score,), (length,), (paths,) = poptorch.ctc_beam_search_decoder(
        logs, torch.tensor([5]), beam_width=2
    )
    exact = likelihoods(logs[:, 0], 0)
    assert float(score.exp()) <= exact[path_of(paths[0], length)] + 1e-6


def test_repeated_labels_need_a_blank_between() -> None:
    sure = torch.full((3, 1, 2), -1e9)
    for step, label in enumerate([1, 0, 1]):
        sure[step, 0, label] = 0.0
    _, lengths, paths = poptorch.ctc_beam_search_decoder(sure, torch.tensor([3]), beam_width=4)
    assert path_of(paths[0, 0], lengths[0, 0]) == (1, 1)


def test_paths_that_do_not_exist_are_empty_and_impossible() -> None:
    logs = torch.tensor([[[0.5, 0.5]]]).log()
    probs, lengths, paths = poptorch.ctc_beam_search_decoder(
        logs, torch.tensor([1]), beam_width=5, top_paths=4
    )
    assert probs.exp().tolist() == [[0.5, 0.5, 0.0, 0.0]]
    assert lengths.tolist() == [[0, 1, 0, 0]]
    assert paths.tolist() == [[[-1], [1], [-1], [-1]]]


class Decodes(nn.Module):
    """A linear layer, then the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        logs = self.linear(x).log_softmax(2).transpose(0, 1)
        return poptorch.ctc_beam_search_decoder(logs, lengths, beam_width=8, top_paths=2)


def test_inside_an_executor_every_micro_batch_is_decoded() -> None:
    model = Decodes()
    x, lengths = torch.randn(4, 5, 3), torch.tensor([5, 4, 3, 5])
    expected = model(x, lengths)
    options = poptorch.Options().deviceIterations(2)
    results = poptorch.inferenceModel(model, options)(x, lengths)
    assert isinstance(results, list)
    for result, value in zip(results, expected):
        assert result.dtype == value.dtype
        torch.testing.assert_close(result, value)


def test_training_is_refused() -> None:
    class Trained(Decodes):
        def forward(self, x: Tensor, lengths: Tensor) -> Any:
            probs = super().forward(x, lengths)[0]
            return poptorch.identity_loss(probs, "sum")

    executor = poptorch.trainingModel(Trained())
    with pytest.raises(poptorch.Error, match="only supported in inference"):
        executor(torch.randn(1, 2, 3), torch.tensor([2]))


LOGS = torch.zeros(2, 1, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: untyped.ctc_beam_search_decoder([1], LOGS), "probs must be"),
        (lambda: untyped.ctc_beam_search_decoder(LOGS, 2), "lengths must be"),
        (lambda: untyped.ctc_beam_search_decoder(LOGS, LOGS), r"lengths \(B,\)"),
        (
            lambda: untyped.ctc_beam_search_decoder(LOGS, torch.tensor([2]), 3),
            "blank=3 is none of 3",
        ),
        (
            lambda: untyped.ctc_beam_search_decoder(LOGS, torch.tensor([2]), 0, 2, 3),
            "from 1 to beam_width=2, got 3",
        ),
    ],
)
def test_misuse_is_a_poptorch_error(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(poptorch.Error, match=words):
        call()
