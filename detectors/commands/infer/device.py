"""Which machine runs the model, chosen before PopTorch is imported: the choice decides which
PopTorch that is.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Union

from detectors.experiment.processes import Processes

__all__ = ["calm_threads", "choose_device", "choose_gpu", "set_threads"]


def calm_threads() -> None:
    """Let OpenMP's threads sleep while they wait; only has an effect before torch is imported.

    By default they spin. On two cores shared with two other jobs one image of EfficientDet-D0 took
    2 s with spinning threads and 0.15 s with sleeping ones. `OMP_WAIT_POLICY` in the environment
    wins.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def choose_device(asked: str, setting: str = "--device ") -> str:
    """`auto` is the IPU where the Poplar SDK is installed, else CUDA, else the CPU.

    Sets `DETECTORS_POPTORCH=host` where the SDK is installed and not wanted.

    Args:
        asked: auto, cpu, cuda or ipu.
        setting: how the command line asks, for the message.

    Returns:
        cpu, cuda or ipu.

    Raises:
        RuntimeError: what was asked for is not there. Nothing slower is taken instead.
    """
    sdk = importlib.util.find_spec("poptorch") is not None
    if os.environ.get("DETECTORS_POPTORCH") == "host":
        sdk = False
    if asked == "ipu" and not sdk:
        raise RuntimeError(
            f"{setting}ipu needs the Poplar SDK, and its poptorch is not installed;"
            f" {setting}cpu runs the same program without it"
        )
    if sdk and asked in ("auto", "ipu"):
        return "ipu"
    if sdk:
        os.environ["DETECTORS_POPTORCH"] = "host"
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"{setting}cuda: torch {torch.__version__} finds no CUDA device;"
            f" {setting}cpu runs the same program"
        )
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def choose_gpu(device: str, processes: Processes) -> None:
    """Give each of several processes on a machine a GPU of its own, as far as there are some."""
    if device == "cuda" and processes.size > 1:
        import torch

        torch.cuda.set_device(processes.local_rank % torch.cuda.device_count())


def set_threads(threads: Union[int, str, None]) -> None:
    """Use a number of CPU threads; `auto` and None leave torch's for now."""
    if isinstance(threads, int):
        import torch

        torch.set_num_threads(threads)
