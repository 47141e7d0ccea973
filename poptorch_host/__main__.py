"""`python -m poptorch_host [-m MODULE | SCRIPT] [arguments]`: run a program that says `import
poptorch`.

The program runs unmodified, as `__main__`, with its own `sys.argv`; `poptorch`, `popdist` and
`popart` are this package's in its process and in those it starts, and so is `horovod` where it is
not installed.
"""

from __future__ import annotations

import os
import sys
from typing import List

from . import alias, launch

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
        if len(arguments) == 1:
            return _refuse("-m needs the name of a module")
        run, program = launch.run_module, arguments[1:]
    elif arguments[0].startswith("-"):
        return _refuse(f"unknown option {arguments[0]}")
    elif not os.path.exists(arguments[0]):
        return _refuse(f"no such file: {arguments[0]}")
    else:
        run, program = launch.run_script, arguments
    alias.install()
    alias.share_with_children()
    return run(program)


def _refuse(reason: str) -> int:
    print(f"{reason}\n{_USAGE}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
