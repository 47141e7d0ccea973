"""EfficientDet (arXiv:1911.09070): configuration, network, inference."""
