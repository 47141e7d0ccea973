"""PopTorch's calls in a model: marks on tensors, loops and branches, and operators of its own."""

from .marks import identity_loss, nop, recomputationCheckpoint, set_available_memory

__all__ = ["identity_loss", "nop", "recomputationCheckpoint", "set_available_memory"]
