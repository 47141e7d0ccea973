"""PopTorch as an accelerator of Lightning's, under the names "poptorch" and "ipu"."""

from __future__ import annotations

from typing import Any, List

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry

from poplar_ops.runtime import IS_HOST, poptorch

__all__ = ["IPUAccelerator", "PopTorchAccelerator"]


class PopTorchAccelerator(Accelerator):
    """`accelerator="poptorch"`: whatever PopTorch runs on here, the host included."""

    def setup_device(self, device: torch.device) -> None:
        """Nothing: executors take their device."""

    def teardown(self) -> None:
        """Nothing: executors give it back."""

    @staticmethod
    def parse_devices(devices: Any) -> int:
        """One: replicas and stages are a matter of `poptorch.Options`.

        Raises:
            ValueError: more were asked for.
        """
        if devices not in (1, "1", [0]):
            raise ValueError(
                f"Trainer(devices={devices!r}) must be 1: IPUs come from replication_factor and"
                " pipeline.splits"
            )
        return 1

    @staticmethod
    def get_parallel_devices(devices: Any) -> List[torch.device]:
        """Where batches are: the host."""
        return [torch.device("cpu")]

    @staticmethod
    def auto_device_count() -> int:
        """One."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """Always: without an SDK it is the host."""
        return True

    @staticmethod
    def name() -> str:
        """As Trainer takes it."""
        return "poptorch"


class IPUAccelerator(PopTorchAccelerator):
    """`accelerator="ipu"`: the same, refused by Lightning where there is no IPU."""

    @staticmethod
    def is_available() -> bool:
        """Whether the SDK finds one."""
        return not IS_HOST and bool(poptorch.ipuHardwareIsAvailable())

    @staticmethod
    def name() -> str:
        """As Trainer takes it."""
        return "ipu"


# Here, since a Trainer looks names up before it has seen the strategy.
for kind in (PopTorchAccelerator, IPUAccelerator):
    if kind.name() not in AcceleratorRegistry.available_accelerators():
        AcceleratorRegistry.register(kind.name(), kind, description=kind.__name__)
