"""Joins the command lines of `control_plane/`, `agents/` and `sim/` into one `shoal`, loading only the room asked for.

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
    return _rest(arguments)


def _rest(arguments: list[str]) -> int:
    import typer

    from .control_plane.cli import SELF, START, app
    from .sim.cli import app as sim
    from .sim.cli import bench

    passed_on = {"ignore_unknown_options": True, "help_option_names": [], "allow_extra_args": True}

    def agent(context: typer.Context) -> None:
        """Run a node's agent, or install, upgrade and remove it."""
        raise typer.Exit(main(["agent", *context.args]))

    app.command("agent", rich_help_panel=START, context_settings=passed_on)(agent)
    app.add_typer(sim, name="sim", rich_help_panel=SELF)
    app.command("bench", rich_help_panel=SELF)(bench)
    try:
        code = app(arguments, prog_name="shoal", standalone_mode=True)
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
