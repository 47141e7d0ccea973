"""Tensors beside the model: their nesting, names, pieces, devices and half precision."""
