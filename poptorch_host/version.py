"""PopTorch's version whose behaviour this package follows."""

__version__ = "3.4.0+host"
"""Also written into saved executables."""
