"""`poptorch`, `popdist` and `popart` for processes that a program under `python -m poptorch_host`
starts: this folder stands on their `sys.path`, and nothing else should.

Each file is what such a process imports first; it puts the module of `poptorch_host` in its place.
"""
