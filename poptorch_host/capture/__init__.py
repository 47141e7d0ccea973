"""One run of `forward` under fake tensors: what it finds, and what it refuses."""
