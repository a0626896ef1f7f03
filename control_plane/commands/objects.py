"""`shoal get`, `describe` and `watch`: what is there, as tables that name the same things as the descriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from rich.markup import escape

from ...descriptions.errors import DescriptionError
from ...descriptions.kinds import Application, Kind, Model, Node, Policy, Rollout, Slice
from ...descriptions.units import format_bytes, format_cores
from ...descriptions.yaml import dump_yaml
from ..api.answers import Decisions, EventAnswer, PlacementAnswer
from ..api.client import BlockingClient, Client
from ..api.requests import DecisionListQuery, EventListQuery
from .output import Format, Output, age, console, emit, phase, plain, table
from .session import connect, guarded, kind_named


@dataclass(frozen=True)
class Shown:
    """How objects of a kind look in a table."""

    titles: tuple[str, ...]
    cells: Callable[[Any], tuple[object, ...]]


def seconds_since(time: str | None) -> float | None:
    """Age of an RFC 3339 time."""
    if not time:
        return None
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def _node(node: Node) -> tuple[object, ...]:
    status, found = node.status, node.status.hardware if node.status else node.spec.hardware
    hardware = node.spec.hardware
    cpu = hardware.cpu if hardware.cpu is not None else found.cpu
    memory = hardware.memory if hardware.memory is not None else found.memory
    steered = "drained" if node.spec.drained else "cordoned" if node.spec.cordoned else ""
    state = phase(status.phase if status else "expected") + (f" [yellow]{steered}[/]" if steered else "")
    return (
        state, node.spec.layer.value,
        "" if cpu is None else format_cores(cpu), "" if memory is None else format_bytes(memory),
        status.agent_version if status else "", status.gateway if status else "",
    )  # fmt: skip


def _application(application: Application) -> tuple[object, ...]:
    status = application.status
    if status is None:
        return "0/?", len(application.spec.components), ""
    ready = f"{status.ready}/{status.desired}"
    shown = f"[green]{ready}[/]" if status.ready == status.desired else f"[yellow]{ready}[/]"
    trouble = next((one.message for one in status.conditions if one.type == "Ready" and one.status != "True"), "")
    return shown, len(application.spec.components), escape(trouble)


def _model(model: Model) -> tuple[object, ...]:
    status = model.status
    stored = "yes" if status and status.stored else ("by url" if model.spec.source.url else "no")
    size = status.size if status and status.size else model.spec.source.size
    digest = (status.sha256 if status else None) or model.spec.source.sha256 or ""
    return model.spec.format, model.spec.version, stored, "" if size is None else format_bytes(size), digest[:12]


def _rollout(rollout: Rollout) -> tuple[object, ...]:
    spec, status = rollout.spec, rollout.status
    done = sum(step.phase == "done" for step in spec.steps)
    where = f"{spec.application}/{spec.component}"
    return where, spec.cause.value, phase(status.phase if status else "running"), f"{done}/{len(spec.steps)}"


def _slice(one: Slice) -> tuple[object, ...]:
    return (one.status.nodes, one.status.ready_nodes, one.status.replicas) if one.status else ("", "", "")


def _policy(one: Policy) -> tuple[object, ...]:
    return one.spec.use, f"{one.spec.weight:g}", one.status.strikes if one.status else 0


SHOWN: dict[str, Shown] = {
    "Node": Shown(("PHASE", "LAYER", "CPU", "MEMORY", "AGENT", "GATEWAY"), _node),
    "Application": Shown(("READY", "COMPONENTS", "TROUBLE"), _application),
    "Model": Shown(("FORMAT", "VERSION", "STORED", "SIZE", "SHA256"), _model),
    "Rollout": Shown(("COMPONENT", "CAUSE", "PHASE", "STEPS"), _rollout),
    "Slice": Shown(("NODES", "READY", "REPLICAS"), _slice),
    "Policy": Shown(("USE", "WEIGHT", "STRIKES"), _policy),
}


def print_kinds(objects: Sequence[Kind], kind: str) -> None:
    """Objects of one kind as a table."""
    shown = SHOWN.get(kind, Shown((), lambda one: ()))
    rows = [(one.metadata.name, *shown.cells(one), age(seconds_since(one.metadata.created))) for one in objects]
    table("", ["NAME", *shown.titles, "AGE"], rows, empty=f"no {kind.lower()} yet; `shoal apply -f FILE` makes one")


def print_placements(placements: Sequence[PlacementAnswer]) -> None:
    """Replicas of applications as a table."""
    rows = [
        (one.id, f"{one.application}/{one.component}", one.node, phase("lost" if one.lost else one.phase), one.cause,
         " ".join(f"{name}:{port}" for name, port in sorted(one.ports.items())) or one.gateway, escape(one.message))
        for one in placements
    ]  # fmt: skip
    table("", ["REPLICA", "COMPONENT", "NODE", "PHASE", "CAUSE", "WHERE", "MESSAGE"], rows, empty="nothing is placed")


def print_events(events: Sequence[EventAnswer]) -> None:
    """Events, oldest first, as people read logs."""
    rows = [
        (age(seconds_since(one.time)), f"[yellow]{one.reason}[/]" if one.severity == "warning" else one.reason,
         f"{one.kind.lower()}/{one.name}" if one.kind else one.node, escape(one.message))
        for one in sorted(events, key=lambda event: event.version)
    ]  # fmt: skip
    table("", ["AGE", "REASON", "ABOUT", "MESSAGE"], rows, empty="nothing happened yet")


def print_decisions(decisions: Decisions) -> None:
    """Decisions, newest first."""
    rows = [
        (one.id, age(seconds_since(one.time)), f"{one.application}/{one.component}", phase(one.outcome))
        for one in decisions.items
    ]
    table("", ["ID", "AGE", "COMPONENT", "OUTCOME"], rows, empty="nothing was decided yet")


@guarded
def get(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="nodes, applications, models, …, or placements, events, decisions.")],
    name: Annotated[str, typer.Argument(help="Only this one.")] = "",
    selector: Annotated[str, typer.Option("--selector", "-l", help="Label selector, such as zone=eu,gpu.")] = "",
    output: Output = Format.HUMAN,
) -> None:
    """List objects of a kind, or show one."""
    with connect(context) as client:
        if kind in {"placements", "placement", "replicas"}:
            return _get_placements(client, name, output)
        if kind in {"events", "event"}:
            events = client.run(lambda api: api.events(EventListQuery(name=name)))
            return _show(events.items, events, output, print_events)
        if kind in {"decisions", "decision"}:
            decisions = client.run(lambda api: api.decisions(DecisionListQuery(application=name)))
            return _show(decisions, decisions, output, print_decisions)
        model = kind_named(kind)
        if name:
            one = client.run(lambda api: api.get(model, name))
            return _show([one], one, output, lambda objects: print_kinds(objects, model.__name__))
        many = client.run(lambda api: api.list(model, selector=selector))
        return _show(many, many, output, lambda objects: print_kinds(objects, model.__name__))


def _get_placements(client: BlockingClient, application: str, output: Format) -> None:
    names = (
        [application] if application else [one.metadata.name for one in client.run(lambda api: api.list(Application))]
    )
    found: list[PlacementAnswer] = []
    for one in names:
        found += client.run(partial(Client.placements, application=one)).placements
    _show(found, found, output, print_placements)


def _show(people: Any, programs: object, output: Format, printer: Callable[[Any], None]) -> None:
    if output is Format.HUMAN:
        printer(people)
    else:
        emit(programs, output)


@guarded
def describe(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="node, application, model, …")],
    name: Annotated[str, typer.Argument(help="Which one.")],
) -> None:
    """Show one object whole, with its replicas and recent events."""
    model = kind_named(kind)
    with connect(context) as client:
        one = client.run(lambda api: api.get(model, name))
        console.print(dump_yaml(plain(one)).rstrip(), markup=False)
        if isinstance(one, Application):
            console.print("\n[bold]Placements[/]")
            print_placements(client.run(lambda api: api.placements(name)).placements)
        query = EventListQuery(kind=model.__name__, name=name, limit=20)
        console.print("\n[bold]Events[/]")
        print_events(client.run(lambda api: api.events(query)).items)


@guarded
def watch(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="A kind, or events.")] = "events",
    output: Output = Format.HUMAN,
) -> None:
    """Follow changes of a kind, or events, until Ctrl-C."""
    if output is Format.YAML:
        raise DescriptionError("a stream has no end, so it is no YAML document", expected="human or json")
    with connect(context) as client:
        if kind in {"events", "event"}:
            for event in client.iterate(lambda api: api.watch_events()):
                _follow_event(event, output)
            return
        model = kind_named(kind)
        for change in client.iterate(lambda api: api.watch(model)):
            if output is Format.JSON:
                console.print_json(data=plain(change))
                continue
            cells = SHOWN[model.__name__].cells(change.object) if model.__name__ in SHOWN else ()
            state = "[red]deleted[/]" if change.type == "delete" else "  ".join(str(cell) for cell in cells)
            console.print(f"{change.object.metadata.name}  {state}")


def _follow_event(event: EventAnswer, output: Format) -> None:
    if output is Format.JSON:
        console.print_json(data=plain(event))
    else:
        about = f"{event.kind.lower()}/{event.name}" if event.kind else event.node
        style = "yellow" if event.severity == "warning" else "cyan"
        console.print(f"[dim]{event.time[11:19]}[/] [{style}]{event.reason}[/] {about}: {escape(event.message)}")
