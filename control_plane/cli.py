"""The `shoal` command line of the control plane's side: its verbs are in `commands/`, one file a noun.

The root `__main__.py` adds `agent`, `sim` and `bench`, which live in rooms that this one may not import.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .commands import apply, configure, nodes, objects, plugins, serve, watching
from .commands.demo import demo
from .commands.session import Chosen

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run models and programs on the nodes where they belong, from a Raspberry Pi to a cloud.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shoal {__version__}")
        raise typer.Exit


@app.callback()
def choose(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="SHOAL_URL", help="URL of the control plane.")] = "",
    token_file: Annotated[str, typer.Option(envvar="SHOAL_TOKEN_FILE", help="File with the API token.")] = "",
    name: Annotated[
        str, typer.Option("--context", envvar="SHOAL_CONTEXT", help="A context of `shoal context list`.")
    ] = "",
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""
    context.obj = Chosen(url, token_file, name)


START, DESCRIBE, ASK, STEER, PLUGINS, SELF = "Start", "Describe", "Ask", "Steer", "Plugins", "This machine"

app.command(rich_help_panel=START)(demo)
app.command("control-plane", rich_help_panel=START)(serve.control_plane)
app.command(rich_help_panel=START)(serve.broker)
app.add_typer(nodes.token, name="token", rich_help_panel=START)

app.command(rich_help_panel=DESCRIBE)(apply.apply)
app.command(rich_help_panel=DESCRIBE)(apply.delete)
app.command("what-if", rich_help_panel=DESCRIBE)(apply.what_if)
app.command(rich_help_panel=DESCRIBE)(plugins.schema)
app.command(rich_help_panel=DESCRIBE)(plugins.crds)

app.command(rich_help_panel=ASK)(objects.get)
app.command(rich_help_panel=ASK)(objects.describe)
app.command(rich_help_panel=ASK)(watching.why)
app.command(rich_help_panel=ASK)(objects.watch)
app.command(rich_help_panel=ASK)(watching.logs)
app.command(rich_help_panel=ASK)(watching.infer)
app.command(rich_help_panel=ASK)(watching.top)

app.command(rich_help_panel=STEER)(nodes.cordon)
app.command(rich_help_panel=STEER)(nodes.uncordon)
app.command(rich_help_panel=STEER)(nodes.drain)
app.add_typer(nodes.rollout, name="rollout", rich_help_panel=STEER)

app.add_typer(plugins.policy, name="policy", rich_help_panel=PLUGINS)
app.add_typer(plugins.mechanism, name="mechanism", rich_help_panel=PLUGINS)

app.add_typer(configure.context_app, name="context", rich_help_panel=SELF)
app.command(rich_help_panel=SELF)(configure.doctor)
