"""`python -m poptorch_host.fit FILE.py:build`: what would fit on how many IPUs, without an SDK.

A place only: until it is built, `host.report(executor)` lists stages and their parameters.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Say that this comes later; the exit status is 2."""
    print(
        "python -m poptorch_host.fit is not available yet: compile the model and print"
        " poptorch_host.host.report(executor).render() for its stages and parameters",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
