"""A captured model with tensors of its own, run micro-batch by micro-batch."""
