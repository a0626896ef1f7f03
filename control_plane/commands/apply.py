"""`shoal apply`, `delete` and `what-if`: descriptions from files to the control plane, models uploaded on the way."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ...descriptions.errors import DescriptionError
from ...descriptions.kinds import Kind, Model
from ...descriptions.load import Described, load_paths
from ..api.client import ApiError, BlockingClient, Client
from ..api.requests import WhatIfRequest
from .explain import print_what_if
from .output import Format, Output, console, emit, errors
from .session import connect, guarded, kind_named

FILES = Annotated[
    list[str], typer.Option("--filename", "-f", help="File, folder, or - for standard input; may be repeated.")
]
ORDER = ("Slice", "Datacenter", "Cluster", "Node", "Model", "Policy", "Mechanism", "Secret", "Application")
"""What others refer to comes first."""


def in_order(described: tuple[Described, ...]) -> list[Described]:
    """Sorted so that nothing is applied before what it refers to; otherwise as written."""
    return sorted(described, key=lambda one: ORDER.index(one.kind.kind) if one.kind.kind in ORDER else len(ORDER))


@guarded
def apply(
    context: typer.Context,
    files: FILES,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate on the control plane and change nothing.")
    ] = False,
    output: Output = Format.HUMAN,
) -> None:
    """Create or change what is described, in the order in which it refers to each other."""
    described = in_order(load_paths(files, stdin=sys.stdin.buffer))
    applied: list[Kind] = []
    with connect(context) as client, uploads(quiet=output is not Format.HUMAN) as progress:
        for one in described:
            said, kept = apply_one(client, one, dry_run, progress)
            applied.append(kept)
            if output is Format.HUMAN:
                suffix = " [dim](dry run)[/]" if dry_run else ""
                console.print(f"{one.kind.kind.lower()}/{one.kind.metadata.name} {said}{suffix}")
    if output is not Format.HUMAN:
        emit(applied, output)


ProgressOf = Callable[[str], Callable[[int, int], None]]


def apply_one(client: BlockingClient, one: Described, dry_run: bool, progress: ProgressOf) -> tuple[str, Kind]:
    """Apply one object; what was done to it, and how it is stored now."""
    kind = announced(one)
    before = client.run(lambda api: found(api, type(kind), kind.metadata.name))
    kept = client.run(lambda api: api.apply(kind, dry_run=dry_run))
    said = "[green]created[/]" if before is None else "[yellow]configured[/]"
    if before is not None and before.metadata.resource_version == kept.metadata.resource_version:
        said = "[dim]unchanged[/]"
    if isinstance(kind, Model) and kind.spec.source.file and not dry_run:
        path = model_file(one, kind)
        status = kept.status if isinstance(kept, Model) else None
        if status is None or not status.stored or status.sha256 != sha256_of(path):
            client.run(lambda api: api.upload_model(kind.metadata.name, path, progress=progress(kind.metadata.name)))
            said += f", [green]uploaded[/] {path.stat().st_size:,} bytes"
            kept = client.run(lambda api: api.get(Model, kind.metadata.name))
    return said, kept


def announced(one: Described) -> Kind:
    """The object as it is sent: a model says which bytes it means, so that none runs with those of another version."""
    kind = one.kind
    if not isinstance(kind, Model) or not kind.spec.source.file or kind.spec.source.sha256 is not None:
        return kind
    path = model_file(one, kind)
    source = kind.spec.source.model_copy(update={"sha256": sha256_of(path), "size": path.stat().st_size})
    return kind.model_copy(update={"spec": kind.spec.model_copy(update={"source": source})})


async def found(api: Client, kind: type[Kind], name: str) -> Kind | None:
    """The object as it is, or None."""
    try:
        return await api.get(kind, name)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def model_file(one: Described, model: Model) -> Path:
    """Where a model's `source.file` is: beside its description."""
    named = Path(model.spec.source.file or "")
    path = named if named.is_absolute() else Path(one.document.file or ".").parent / named
    if not path.is_file():
        raise DescriptionError(
            f"there is no file {path}",
            file=one.document.file,
            path="spec.source.file",
            expected="a path beside the description",
        )
    return path


def sha256_of(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def uploads(*, quiet: bool) -> Iterator[ProgressOf]:
    """Progress bars on standard error for uploads that last."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        console=errors, transient=True, disable=quiet,
    )  # fmt: skip
    with bars:

        def start(name: str) -> Callable[[int, int], None]:
            task = bars.add_task(f"uploading {name}", total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield start


@guarded
def delete(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND NAME…]", help="A kind and the names to delete.")
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Delete what these files describe.")
    ] = None,
) -> None:
    """Delete objects by name, or all that files describe (dependents first)."""
    if bool(names) == bool(files):
        raise DescriptionError("say what to delete", expected="either KIND NAME… or -f FILE")
    if names and len(names) < 2:
        raise DescriptionError(
            "say which ones to delete", expected="KIND NAME…, such as `shoal delete application digits`"
        )
    wanted: list[tuple[type[Kind], str]] = []
    if names:
        wanted = [(kind_named(names[0]), name) for name in names[1:]]
    else:
        described = in_order(load_paths(files or [], stdin=sys.stdin.buffer))
        wanted = [(type(one.kind), one.kind.metadata.name) for one in reversed(described)]
    with connect(context) as client:
        for kind, name in wanted:
            client.run(lambda api, kind=kind, name=name: api.delete(kind, name))  # type: ignore[misc]
            console.print(f"{kind.__name__.lower()}/{name} [red]deleted[/]")


@guarded
def what_if(context: typer.Context, files: FILES, output: Output = Format.HUMAN) -> None:
    """Say what changed descriptions would do; nothing is touched."""
    described = load_paths(files, stdin=sys.stdin.buffer)
    request = WhatIfRequest.model_validate({"objects": [one.kind for one in described]})
    with connect(context) as client:
        told = client.run(lambda api: api.what_if(request))
    if output is Format.HUMAN:
        print_what_if(told)
    else:
        emit(told, output)
