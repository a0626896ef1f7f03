"""Turns answers into what a person or a program reads: rich tables, JSON or YAML. Every command prints through here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from ...descriptions.yaml import dump_yaml

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 200  # nobody wraps what goes to a file or a pipe
errors = Console(stderr=True, highlight=False)


class Format(StrEnum):
    """How an answer is printed."""

    HUMAN = "human"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format, typer.Option("--output", "-o", help="Table for people, or json, or yaml.")]


def plain(value: object) -> Any:
    """JSON-like data of a model, message, dataclass or container of them."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return msgspec.to_builtins(value)


def emit(value: object, form: Format) -> None:
    """Print for a program; the caller handles the human form itself."""
    if form is Format.YAML:
        sys.stdout.write(dump_yaml(plain(value)))
    else:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2).decode() + "\n")


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    justify: str = "left"
    style: str = ""


PHASE_STYLES = {
    "ready": "green", "running": "green", "done": "green", "True": "green", "placed": "green",
    "starting": "cyan", "expected": "cyan", "paused": "cyan", "stopping": "cyan", "pending": "cyan",
    "suspect": "yellow", "notReady": "yellow", "unknown": "yellow", "aborted": "yellow",
    "lost": "red", "failed": "red", "left": "dim",
}  # fmt: skip


def phase(text: str) -> str:
    """A phase in its colour, the same in every table."""
    style = PHASE_STYLES.get(text)
    return f"[{style}]{text}[/]" if style else text


def table(title: str, columns: Sequence[str | Column], rows: Sequence[Sequence[object]], empty: str = "") -> None:
    """Print a table; `empty` says what to do when there is nothing to show."""
    if not rows:
        console.print(f"[dim]{empty or 'nothing to show'}[/]")
        return
    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made = column if isinstance(column, Column) else Column(column)
        drawn.add_column(made.title, justify=made.justify, style=made.style or None, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(drawn)


def age(seconds: float | None) -> str:
    """`42s`, `5m`, `3h`, `2d`, as kubectl shows ages."""
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
