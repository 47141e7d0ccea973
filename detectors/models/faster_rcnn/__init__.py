"""Faster R-CNN (arXiv:1506.01497) with a C4 trunk: configuration, network, training, inference."""
