"""Loaders of whole batches, and the process that reads ahead."""
