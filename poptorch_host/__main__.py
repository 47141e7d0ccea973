"""`python -m poptorch_host [-m MODULE | SCRIPT] [arguments]`: run a program that says `import
poptorch`.

The program runs unmodified, as `__main__`, with its own `sys.argv`; `poptorch` is this package
in its process.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import List

from . import alias

_USAGE = "usage: python -m poptorch_host [-m MODULE | SCRIPT] [arguments of the program]"


def main(arguments: List[str]) -> int:
    """Run the program; its own exit goes through.

    Returns:
        the exit status: 2 for a wrong command line.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "-m":
        return _run_module(arguments[1:])
    if arguments[0].startswith("-"):
        print(f"unknown option {arguments[0]}\n{_USAGE}", file=sys.stderr)
        return 2
    return _run_script(arguments)


def _run_module(arguments: List[str]) -> int:
    if not arguments:
        print(f"-m needs the name of a module\n{_USAGE}", file=sys.stderr)
        return 2
    alias.install()
    sys.argv = arguments  # runpy puts the module's file in place of its name
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    return 0


def _run_script(arguments: List[str]) -> int:
    script = arguments[0]
    if not os.path.exists(script):
        print(f"no such file: {script}\n{_USAGE}", file=sys.stderr)
        return 2
    alias.install()
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(script))  # as `python SCRIPT` has it
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
