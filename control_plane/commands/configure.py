"""`shoal context` and `shoal doctor`: which control plane, and whether this machine is well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ...descriptions.errors import DescriptionError
from .contexts import Context, config_path, load_contexts, save_contexts
from .doctor import Finding, examine, write_bundle
from .output import Format, Output, console, emit, table
from .session import FAILED, guarded, target

context_app = typer.Typer(no_args_is_help=True, help="Contexts: names for control planes, with URL, token and CA.")


@context_app.command("list")
@guarded
def list_contexts(output: Output = Format.HUMAN) -> None:
    """List them, without tokens."""
    held = load_contexts()
    shown = {
        name: {"url": one.url, "tokenFile": one.token_file, "ca": one.ca} for name, one in sorted(held.contexts.items())
    }
    if output is not Format.HUMAN:
        return emit({"current": held.current, "contexts": shown}, output)
    rows = [
        ("*" if name == held.current else "", name, one.url, one.token_file)
        for name, one in sorted(held.contexts.items())
    ]
    return table(
        "", ["", "NAME", "URL", "TOKEN FILE"], rows, empty="none yet; `shoal context set NAME --url URL` makes one"
    )


@context_app.command("set")
@guarded
def set_context(
    name: Annotated[str, typer.Argument(help="Its name.")],
    url: Annotated[str, typer.Option(help="URL of the API.")],
    token_file: Annotated[str, typer.Option(help="File with the API token.")] = "",
    ca: Annotated[str, typer.Option(help="PEM file of the authority that signed its certificate.")] = "",
) -> None:
    """Create or change one, and use it from now on."""
    held = load_contexts()
    made = Context(url.rstrip("/"), token_file=str(Path(token_file).absolute()) if token_file else "", ca=ca)
    save_contexts(msgspec.structs.replace(held, current=name, contexts=held.contexts | {name: made}))
    console.print(f"context {name} is used from now on ({config_path()})")


@context_app.command("use")
@guarded
def use_context(name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Use one from now on."""
    held = load_contexts()
    if name not in held.contexts:
        raise DescriptionError(
            f"there is no context {name!r}", expected=", ".join(sorted(held.contexts)) or "one that was set"
        )
    save_contexts(msgspec.structs.replace(held, current=name))
    console.print(f"context {name} is used from now on")


STYLES = {"ok": "green", "note": "yellow", "problem": "red"}


@guarded
def doctor(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Also write findings and facts, without secrets, to this zip.")
    ] = None,
    output: Output = Format.HUMAN,
) -> None:
    """Look at this machine and the control plane, and say what to do about what is wrong."""
    to = target(context)
    findings = examine(to)
    if bundle is not None:
        write_bundle(bundle, findings, to)
    if output is Format.HUMAN:
        _print(findings)
        if bundle is not None:
            console.print(f"wrote {bundle}")
    else:
        emit(findings, output)
    raise typer.Exit(FAILED if any(one.verdict == "problem" for one in findings) else 0)


def _print(findings: list[Finding]) -> None:
    rows = [(f"[{STYLES[one.verdict]}]{one.verdict}[/]", one.check, one.message, one.advice) for one in findings]
    table("", ["", "CHECK", "FOUND", "WHAT TO DO"], rows)
