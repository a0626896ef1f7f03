"""`shoal why`, `logs`, `top` and `infer`: ask what runs, and why."""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ...descriptions.errors import DescriptionError, TransportError
from ...descriptions.kinds import Application
from ..api.answers import LogLine, MetricValue
from ..api.client import BlockingClient
from ..api.requests import LogQuery, MetricQuery, TelemetryQuery
from .explain import print_why
from .output import Format, Output, console, emit
from .session import component_named, connect, guarded

ANSWER_MAX = 64 * 1024 * 1024


@guarded
def why(
    context: typer.Context,
    component: Annotated[str, typer.Argument(help="APPLICATION/COMPONENT.")],
    node: Annotated[str, typer.Option("--node", "-n", help="Why, or why not, on this node.")] = "",
    output: Output = Format.HUMAN,
) -> None:
    """Explain a placement: every failing constraint and every score, for every node or for one."""
    application, name = component_named(component)
    with connect(context) as client:
        told = client.run(lambda api: api.why(application, name, node or None))
    if output is Format.HUMAN:
        print_why(told)
    else:
        emit(told, output)


@guarded
def logs(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="A node, or APPLICATION/COMPONENT.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option(help="Lines to begin with.")] = 100,
) -> None:
    """Show log lines of a node's agent, or of a component's replicas."""
    if "/" in what:
        application, component = component_named(what)
        query = LogQuery(application=application, component=component, tail=tail)
    else:
        query = LogQuery(node=what, tail=tail)
    with connect(context) as client:
        if not follow:
            for line in client.run(lambda api: api.logs(query)).lines:
                _print_line(line)
            return
        for line in client.iterate(lambda api: api.follow_logs(query)):
            _print_line(line)


def _print_line(line: LogLine) -> None:
    who = line.replica or line.node
    console.print(f"[dim]{line.time[11:19]}[/] [cyan]{who}[/] {escape(line.line)}", soft_wrap=True)


TOP = (
    ("CPU", "system.cpu.utilization", "last", 100.0, "%"),
    ("MEMORY", "system.memory.utilization", "last", 100.0, "%"),
    ("LOAD", "system.cpu.load_average.1m", "last", 1.0, ""),
)
TOP_MODELS = (
    ("REQUESTS/S", "shoal.model.requests", "rate", 1.0, ""),
    ("P95 MS", "shoal.model.latency", "p95", 1.0, ""),
    ("QUEUE", "shoal.model.queue", "last", 1.0, ""),
)


@guarded
def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False,
    output: Output = Format.HUMAN,
) -> None:
    """Show what nodes and models are doing, live."""
    with connect(context) as client:
        if output is not Format.HUMAN:
            nodes, models = read_top(client)
            return emit({"nodes": nodes, "models": models}, output)
        if once:
            return console.print(top_table(client))
        with Live(top_table(client), console=console, refresh_per_second=2, screen=False) as live:
            for _ in itertools.count():
                time.sleep(1)
                live.update(top_table(client))
    return None


def read_top(client: BlockingClient) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Values by node and by component, as `TOP` and `TOP_MODELS` name them."""
    asked = [
        MetricQuery.model_validate({"metric": metric, "statistic": statistic, "by": "node"})
        for _, metric, statistic, _, _ in TOP
    ]
    asked += [
        MetricQuery.model_validate({"metric": metric, "statistic": statistic, "by": "component", "window": "30s"})
        for _, metric, statistic, _, _ in TOP_MODELS
    ]
    answers = client.run(lambda api: api.telemetry(TelemetryQuery(queries=tuple(asked)))).answers
    nodes: dict[str, dict[str, float]] = {}
    models: dict[str, dict[str, float]] = {}
    for (title, _, _, factor, _), answer in zip(TOP, answers, strict=False):
        _collect(nodes, title, factor, answer.values, lambda one: one.node)
    for (title, _, _, factor, _), answer in zip(TOP_MODELS, answers[len(TOP) :], strict=False):
        _collect(models, title, factor, answer.values, lambda one: one.component)
    return nodes, models


def _collect(
    into: dict[str, dict[str, float]], title: str, factor: float, values: tuple[MetricValue, ...], key: Any
) -> None:
    for one in values:
        if key(one):
            into.setdefault(key(one), {})[title] = one.value * factor


def top_table(client: BlockingClient) -> Table:
    """Nodes, then models, in one table."""
    nodes, models = read_top(client)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NODE", *(one[0] for one in TOP), "COMPONENT", *(one[0] for one in TOP_MODELS)):
        drawn.add_column(title, justify="left" if title in {"NODE", "COMPONENT"} else "right")
    for node, model in itertools.zip_longest(sorted(nodes), sorted(models), fillvalue=""):
        left = [
            f"{nodes[node][title]:.1f}{unit}" if title in nodes.get(node, {}) else "" for title, _, _, _, unit in TOP
        ]
        right = [f"{models[model][title]:.1f}" if title in models.get(model, {}) else "" for title, *_ in TOP_MODELS]
        drawn.add_row(node, *left, model, *right)
    if not nodes and not models:
        drawn.add_row("[dim]nothing was measured yet[/]")
    return drawn


@guarded
def infer(
    context: typer.Context,
    component: Annotated[str, typer.Argument(help="APPLICATION/COMPONENT of an inference component.")],
    body: Annotated[
        Path, typer.Option("--input", "-i", help="File with an Open Inference Protocol v2 request (JSON).")
    ],
    replica: Annotated[str, typer.Option(help="Ask this replica's node.")] = "",
) -> None:
    """Ask a model: sends the request to the gateway of a node that serves it and prints the answer."""
    application, name = component_named(component)
    with connect(context) as client:
        described = client.run(lambda api: api.get(Application, application))
        placed = client.run(lambda api: api.placements(application)).placements
    run = next((one.inference for one in described.spec.components if one.name == name), None)
    if run is None:
        raise DescriptionError(f"{component} serves no model", expected="an inference component")
    able = [
        one
        for one in placed
        if one.component == name and one.phase == "ready" and one.gateway and replica in {"", one.id}
    ]
    if not able:
        raise TransportError(f"no replica of {component} is ready; `shoal get placements {application}` shows why")
    answer = ask(able[0].gateway, run.model, body.read_bytes())
    console.print_json(data=answer)


def ask(gateway: str, model: str, body: bytes, timeout_s: float = 30.0) -> dict[str, Any]:
    """The answer of a gateway to a v2 request. Raises `TransportError`."""
    if not gateway.startswith(("http://", "https://")):
        raise TransportError(f"{gateway!r} is not a gateway's URL")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{gateway}/v2/models/{model}/infer", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            answer: dict[str, Any] = json.loads(response.read(ANSWER_MAX))
            return answer
    except urllib.error.HTTPError as error:
        raise TransportError(f"{gateway} answered {error.code}: {error.read(2000).decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise TransportError(f"{gateway} did not answer: {error}") from None
