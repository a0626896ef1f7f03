"""`shoal policy test`, `mechanism test`: check a plugin before anybody relies on it. Also `schema` and `crds`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ...descriptions.errors import DescriptionError
from ...descriptions.yaml import dump_yaml
from .output import Format, Output, console, emit
from .session import FAILED, guarded, kind_named

policy = typer.Typer(no_args_is_help=True, help="Policy plugins.")
mechanism = typer.Typer(no_args_is_help=True, help="Mechanism plugins.")
PluginFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Python file with the plugin.")]


@policy.command("test")
@guarded
def policy_test(file: PluginFile, output: Output = Format.HUMAN) -> None:
    """Check a policy: pure, finite, order-free, explains itself, and places in simulation."""
    from ...policies.checks import run_file

    report = run_file(file)
    if output is Format.HUMAN:
        for line in report.lines():
            console.print(escape(line))
    else:
        emit(report, output)
    raise typer.Exit(0 if report.passed else FAILED)


@mechanism.command("test")
@guarded
def mechanism_test(file: PluginFile, output: Output = Format.HUMAN) -> None:
    """Check a mechanism: honest options, idempotent by command id, true status, undo that restores."""
    from ...mechanisms.checks import run_file

    report = run_file(file)
    if output is Format.HUMAN:
        for line in report.lines():
            console.print(escape(line))
    else:
        emit(report, output)
    raise typer.Exit(0 if report.passed else FAILED)


@guarded
def schema(
    kind: Annotated[str, typer.Argument(help="A kind; all when left out.")] = "", output: Output = Format.JSON
) -> None:
    """Print the JSON Schema (2020-12) of a kind, or of all."""
    from ...descriptions.schema import json_schema

    emit(json_schema(kind_named(kind).__name__ if kind else None), Format.JSON if output is Format.HUMAN else output)


@guarded
def crds(output: Output = Format.YAML) -> None:
    """Print Kubernetes CustomResourceDefinitions of the kinds: `shoal crds | kubectl apply -f -`."""
    from ...descriptions.crds import crds as definitions

    if output is Format.JSON:
        return emit({"apiVersion": "v1", "kind": "List", "items": definitions()}, output)
    if output is Format.HUMAN:
        raise DescriptionError("definitions are no table", expected="yaml or json")
    typer.echo(dump_yaml(*definitions()), nl=False)
    return None
