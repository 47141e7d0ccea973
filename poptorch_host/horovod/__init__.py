"""`horovod`, as far as PopTorch programs call it, for machines that do not have it installed.

Only `python -m poptorch_host` gives a program this package under that name, and an installed
horovod always wins. There is `horovod.torch` and nothing for other frameworks.
"""
