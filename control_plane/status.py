"""Turns rows and what the cores know into the statuses that people read, with conditions as Kubernetes has them.

Pure; `core.py` calls it for objects that an event touched, at most twice a second for each, and writes what differs.
A condition's `since` moves only when its `status` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..descriptions.kinds import Application, Node
from ..descriptions.kinds.application import ApplicationStatus, ReplicaStatus
from ..descriptions.kinds.inventory import GroupStatus
from ..descriptions.kinds.meta import Condition
from ..descriptions.kinds.node import Accelerator, Hardware, NodeStatus
from ..descriptions.kinds.slice import SliceStatus
from ..descriptions.messages.desired import InferenceTask
from ..descriptions.messages.reported import DeviceReport, Inventory, Reported
from .placement import Placement
from .rollout import is_running
from .rows import Rows

Truth = Literal["True", "False", "Unknown"]
MESSAGE_CHARS_MAX = 1000


@dataclass(frozen=True)
class ComponentFacts:
    """What the cores know of a component beside its rows."""

    name: str
    desired: int
    trouble: str = ""
    """CamelCase reason why replicas are missing; empty when nothing is wrong."""
    message: str = ""


def application_status(
    rows: Rows, application: Application, facts: Iterable[ComponentFacts], at: str
) -> ApplicationStatus:
    """How an application fares; `at` is the time as RFC 3339."""
    facts = tuple(facts)
    name = application.metadata.name
    placements = tuple(p for fact in facts for p in rows.placements_of((name, fact.name)))
    replicas = tuple(_replica(rows, placement) for placement in placements)
    desired = sum(fact.desired for fact in facts)
    ready = sum(_serves(rows, placement) for placement in placements)
    before = application.status.conditions if application.status is not None else ()
    conditions = (
        _ready(ready, desired),
        _progressing(rows, name, facts, placements),
        _degraded(rows, facts, placements),
    )
    return ApplicationStatus(
        observed_generation=application.metadata.generation or 0,
        desired=desired,
        ready=ready,
        conditions=dated(conditions, before, at),
        replicas=replicas,
    )


def node_status(node: Node, reported: Reported | None, desired_generation: int, at: str) -> NodeStatus:
    """How a node fares, by its latest report; the phase in `node.status` is kept."""
    assert node.status is not None, "only joined nodes have a status"
    before = node.status
    reasons = {"ready": "Heard", "suspect": "HeartbeatsMissed", "lost": "LeaseOver", "left": "Left"}
    truth: dict[str, Truth] = {"ready": "True", "suspect": "Unknown", "lost": "Unknown", "left": "False"}
    conditions = [_condition("Ready", truth.get(before.phase, "False"), reasons.get(before.phase, "NeverJoined"))]
    if reported is None:
        return before.model_copy(update={"conditions": dated(conditions, before.conditions, at), "last_seen": at})
    conditions += [_condition(one.type[:63], one.status, one.reason, one.message) for one in reported.conditions[:31]]
    return before.model_copy(
        update={
            "conditions": dated(conditions, before.conditions, at),
            "hardware": hardware_of(reported.inventory) if reported.inventory.cpu else before.hardware,
            "accelerators": accelerators_of(reported.inventory.accelerators),
            "gateway": reported.gateway[:1024],
            "mechanisms": tuple(mechanism.name[:63] for mechanism in reported.mechanisms[:64]),
            "desired_generation": desired_generation,
            "observed_generation": reported.observed_generation,
            "last_seen": at,
        }
    )


def is_news(before: NodeStatus, after: NodeStatus) -> bool:
    """True when more than the time of the last word differs."""
    return before.model_copy(update={"last_seen": after.last_seen}) != after


def hardware_of(inventory: Inventory) -> Hardware:
    """What an agent found, in the words of the Node kind."""
    return Hardware(
        architecture=inventory.architecture[:31] or None,
        model=inventory.model[:255] or None,
        cpu=inventory.cpu or None,
        frequency=inventory.frequency_hz or None,
        memory=inventory.memory_bytes or None,
        disk=inventory.disk_bytes or None,
    )


def accelerators_of(devices: Iterable[DeviceReport]) -> tuple[Accelerator, ...]:
    """Accelerators that an agent found; what doesn't fit the kind is left out."""
    return tuple(
        Accelerator(type=device.type, model=device.model[:63] or None, count=device.count, memory=device.memory_bytes)
        for device in list(devices)[:64]
        if 0 < device.count <= 64 and device.type.isascii() and device.type.isalnum() and len(device.type) <= 31
    )


def group_status(
    nodes: Iterable[Node], conditions: Iterable[Condition], before: GroupStatus | None, at: str
) -> GroupStatus:
    """How a cluster's or datacenter's nodes fare."""
    joined = [node.status for node in nodes if node.status is not None and node.status.uid]
    ready = sum(status.phase == "ready" for status in joined)
    own = _condition("Ready", "True" if ready else "False", "NodesReady", f"{ready} of {len(joined)} nodes")
    return GroupStatus(
        nodes=len(joined),
        ready_nodes=ready,
        conditions=dated((own, *conditions), before.conditions if before is not None else (), at),
    )


def slice_status(rows: Rows, epoch: int, conditions: Iterable[Condition], at: str) -> SliceStatus:
    """The slice as a whole."""
    before = rows.slice.status.conditions if rows.slice.status is not None else ()
    joined = [node.status for node in rows.nodes.values() if node.status is not None and node.status.uid]
    return SliceStatus(
        conditions=dated(tuple(conditions), before, at),
        epoch=epoch,
        nodes=len(joined),
        ready_nodes=sum(status.phase == "ready" for status in joined),
        replicas=sum(placement.wanted == "run" and not placement.lost for placement in rows.placements.values()),
    )


def dated(conditions: Iterable[Condition], before: Iterable[Condition], at: str) -> tuple[Condition, ...]:
    """Conditions with `since`: as before where the status is, `at` where it changed."""
    known: Mapping[str, Condition] = {condition.type: condition for condition in before}
    return tuple(
        condition.model_copy(update={"since": known[condition.type].since})
        if condition.type in known and known[condition.type].status == condition.status
        else condition.model_copy(update={"since": at})
        for condition in conditions
    )


def _condition(kind: str, status: Truth, reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status=status, reason=reason[:128], message=message[:MESSAGE_CHARS_MAX])


def _ready(ready: int, desired: int) -> Condition:
    told = f"{ready} of {desired} replicas are ready"
    if ready >= desired:
        return _condition("Ready", "True", "AllReady" if desired else "NothingWanted", told)
    return _condition("Ready", "False", "ReplicasMissing", told)


def _progressing(
    rows: Rows, application: str, facts: Iterable[ComponentFacts], placements: Iterable[Placement]
) -> Condition:
    for fact in facts:
        for rollout in rows.rollouts_of((application, fact.name)):
            if is_running(rollout) and rollout.status is not None:
                told = f"{fact.name}: {rollout.spec.cause.value}, {rollout.status.message or 'begun'}"
                paused = rollout.spec.paused
                return _condition("Progressing", "False" if paused else "True", "Paused" if paused else "Rollout", told)
    moving = [p.id for p in placements if p.wanted != "run" or p.phase == "starting"]
    if moving:
        return _condition("Progressing", "True", "ReplicasChange", f"{', '.join(moving[:5])}")
    return _condition("Progressing", "False", "Settled")


def _degraded(rows: Rows, facts: Iterable[ComponentFacts], placements: Iterable[Placement]) -> Condition:
    for fact in facts:
        if fact.trouble:
            return _condition("Degraded", "True", fact.trouble, f"{fact.name}: {fact.message}")
    for placement in placements:
        if placement.wanted != "run":
            continue
        if placement.phase == "failed":
            told = f"{placement.id} on {placement.node_name}: {placement.message or 'failed'}"
            return _condition("Degraded", "True", "ReplicaFailed", told)
        node = rows.node_of(placement.node_uid)
        if node is not None and node.status is not None and node.status.phase in ("lost", "left"):
            told = f"{placement.id}: node {placement.node_name} is {node.status.phase}"
            return _condition("Degraded", "True", "NodeAway", told)
    return _condition("Degraded", "False", "Healthy")


def _serves(rows: Rows, placement: Placement) -> bool:
    if placement.wanted != "run" or placement.phase != "ready" or placement.lost:
        return False
    node = rows.node_of(placement.node_uid)
    return node is not None and node.status is not None and node.status.phase in ("ready", "suspect")


def _replica(rows: Rows, placement: Placement) -> ReplicaStatus:
    node = rows.node_of(placement.node_uid)
    status = node.status if node is not None else None
    is_away = placement.lost or status is None or status.phase in ("lost", "left")
    leaving = placement.wanted != "run"
    return ReplicaStatus(
        id=placement.id,
        component=placement.component,
        node=placement.node_name,
        phase="unknown" if is_away else "stopping" if leaving else placement.phase,
        message=placement.message[:MESSAGE_CHARS_MAX],
        decision=placement.decision,
        url=_url(rows, placement, status.gateway if status is not None else ""),
    )


def _url(rows: Rows, placement: Placement, gateway: str) -> str:
    revision = rows.revision_of(placement)
    task = revision.template.task if revision is not None else None
    return f"{gateway}/v2/models/{task.model}" if gateway and isinstance(task, InferenceTask) else ""
