"""Joins the command lines of `control_plane/`, `agents/` and `sim/` into one `shoal`, loading only the room asked for.

`shoal agent …` must stay light, so it is taken first and loads nothing of the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 done, 1 failed, 2 usage, 3 not found, 4 refused."""
    arguments = sys.argv[1:] if argv is None else argv
    room = ROOMS.get(arguments[0]) if arguments else None
    return room(arguments[1:]) if room else _control_plane(arguments)


def _agent(arguments: list[str]) -> int:
    """Run a node's agent, or install, upgrade and remove it."""
    from .agents.cli import main as agent

    return agent(arguments)


def _sim(arguments: list[str]) -> int:
    """Run a scenario under virtual time."""
    from .sim.cli import app

    return _ended(lambda: app(arguments, prog_name="shoal sim"))


def _bench(arguments: list[str]) -> int:
    """Measure the hot paths."""
    from .sim.benchmarks import app

    return _ended(lambda: app(arguments, prog_name="shoal bench"))


ROOMS: dict[str, Callable[[list[str]], int]] = {"agent": _agent, "sim": _sim, "bench": _bench}


def _control_plane(arguments: list[str]) -> int:
    import typer

    from .control_plane.cli import SELF, START, app

    panels = {"agent": START, "sim": SELF, "bench": SELF}
    for name in ROOMS.keys() - {group.name for group in app.registered_groups}:
        # Only so that `shoal --help` lists them: `main` has taken the calls themselves already.
        passed_on = typer.Typer(help=ROOMS[name].__doc__, context_settings={"help_option_names": []})
        app.add_typer(passed_on, name=name, rich_help_panel=panels[name])
    return _ended(lambda: app(arguments, prog_name="shoal"))


def _ended(run: Callable[[], object]) -> int:
    try:
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
