"""`python -m detectors <command>`, and the parts of `infer.py`."""
