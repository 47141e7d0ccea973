"""The parts of `python -m detectors anchors`, and the line that train.py says of anchors."""
