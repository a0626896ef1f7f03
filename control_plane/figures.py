"""Figures of the running control plane as Prometheus text: nodes, replicas, wire, plans, telemetry.

https://prometheus.io/docs/instrumenting/exposition_formats/; `services.py` adds it to the API's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .driver import Driver, World

PHASES = ("expected", "ready", "suspect", "lost", "left")


def figures(world: World, driver: Driver) -> str:
    """All of them."""
    return "".join((*_nodes(driver), *_replicas(driver), *_wire(world, driver), *_work(world, driver)))


def _nodes(driver: Driver) -> Iterator[str]:
    phases: dict[str, int] = dict.fromkeys(PHASES, 0)
    for state in driver.core.nodes.states.values():
        phases[state.phase] += 1
    yield _family("shoal_nodes", "gauge", "Nodes by phase.", "phase", phases)
    membership = driver.core.membership
    yield _single("shoal_broker_heard", "gauge", "1 while the canary is echoed.", membership.trusted_s is not None)
    yield _single("shoal_site_storms", "gauge", "Sites that vanished.", len(membership.brake.stormy_sites))
    yield _single("shoal_load_level", "gauge", "What nodes are told to shed.", membership.load_level)
    yield _single("shoal_fence", "counter", "Lives of the control plane.", membership.fence)


def _replicas(driver: Driver) -> Iterator[str]:
    phases: dict[str, int] = {}
    for placement in driver.core.rows.placements.values():
        phases[placement.phase] = phases.get(placement.phase, 0) + 1
    yield _family("shoal_replicas", "gauge", "Replicas by phase.", "phase", phases)
    plans = driver.core.plans
    yield _single("shoal_components_blocked", "gauge", "Components that no node fits.", len(plans.blocked))
    yield _single("shoal_components_waiting", "gauge", "Components that wait for the planner.", len(plans.wanted))


def _wire(world: World, driver: Driver) -> Iterator[str]:
    ingest, link = driver.ingest, world.wire.link.counters
    yield _family("shoal_mqtt_received", "counter", "Messages taken in.", "channel", ingest.received)
    yield _family("shoal_mqtt_dropped", "counter", "Messages dropped.", "reason", ingest.dropped)
    yield _family("shoal_mqtt_sent", "counter", "Messages published.", "channel", world.wire.sent)
    yield _family("shoal_mqtt_failed", "counter", "Messages that could not be sent.", "channel", world.wire.failed)
    yield _single("shoal_mqtt_connects", "counter", "Connections to the broker.", link.connects)
    yield _single("shoal_mqtt_overflows", "counter", "Connections ended by a full queue.", link.inbox_overflows)


def _work(world: World, driver: Driver) -> Iterator[str]:
    yield _single("shoal_commits", "counter", "Transactions of the core.", driver.committer.commits)
    yield _single("shoal_commit_jobs", "counter", "Jobs in those transactions.", driver.committer.jobs)
    yield _single("shoal_plans", "counter", "Questions to the planner.", world.planning.questions)
    yield _single("shoal_plan_failures", "counter", "Questions that broke it.", world.planning.failures)
    yield _single("shoal_events_dropped", "counter", "Events held back under a flood.", driver.event_log.dropped)
    yield _single("shoal_telemetry_series", "gauge", "Series in the windows.", world.windows.series_count)
    for name, value in asdict(world.windows.counters).items():
        yield _single(f"shoal_telemetry_{name}", "counter", "See `telemetry/windows.py`.", value)


def _single(name: str, kind: str, told: str, value: float) -> str:
    return f"# HELP {name} {told}\n# TYPE {name} {kind}\n{name} {float(value):g}\n"


def _family(name: str, kind: str, told: str, label: str, values: Mapping[str, int]) -> str:
    lines = "".join(f'{name}{{{label}="{key}"}} {value}\n' for key, value in sorted(values.items()))
    return f"# HELP {name} {told}\n# TYPE {name} {kind}\n{lines}"
