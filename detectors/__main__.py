"""`python -m detectors <command>`: `doctor` says what of this project works on this machine,
`evaluate` scores weights or stored detections, `anchors` holds a dataset's boxes against anchors,
`stages` says what a recipe's stages cost.
"""

from __future__ import annotations

import difflib
import sys
from typing import List, Optional

COMMANDS = ("doctor", "evaluate", "anchors", "stages")


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: python -m detectors {'|'.join(COMMANDS)}")
        return 0 if words else 2
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1, cutoff=0.4)
        print(f"error: no command '{words[0]}'", file=sys.stderr)
        print(
            f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    if words[0] == "evaluate":
        from detectors.commands.evaluate.command import main as evaluate

        return evaluate(words[1:])
    if words[0] == "anchors":
        from detectors.commands.anchors.command import main as anchors

        return anchors(words[1:])
    if words[0] == "stages":
        from detectors.commands.stages import main as stages

        return stages(words[1:])
    from detectors.commands.doctor import main as doctor

    return doctor(words[1:])


if __name__ == "__main__":
    sys.exit(main())
