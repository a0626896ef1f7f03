"""Joins the command lines of `control_plane/`, `agents/` and `sim/` into one `shoal`, loading only the room that is asked.

`shoal agent …` must stay light, so it is taken first and loads nothing of the rest.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 failed, 2 usage, 3 not found, 4 refused."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["agent"]:
        from .agents.cli import main as agent

        return agent(arguments[1:])
    from .control_plane.cli import main as control_plane

    return control_plane(arguments)


if __name__ == "__main__":
    sys.exit(main())
