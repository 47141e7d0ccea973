"""Claims about four ranks: four stages, two stages of two replicas, four replicas."""

from __future__ import annotations

import torch

import poptorch_host as poptorch
from tests.poptorch_host.ranks.programs.staged_net import Case, check_equal

if __name__ == "__main__":
    torch.set_num_threads(1)
    mode = poptorch.OutputMode
    check_equal(Case((1, 2, 3), optimizer="adam", mode=mode.Final), "1f1b", "gpipe")
    check_equal(Case((0, 1, 1), replicas=2, mode=mode.Sum), "1f1b")
    check_equal(Case((0, 0, 0), replicas=4, optimizer="adam"), "1f1b")  # sums of more than two
    print("all claims hold", flush=True)
