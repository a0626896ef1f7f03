"""Checks a proposed assignment against the newest rows, whatever the planner saw when it decided.

The planner works over a snapshot while rows go on changing, and parts of it are other people's policies: only what
passes here is committed. Pure; called by `components.py` for each assignment, in order, with those before it counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..descriptions.kinds import Node
from .placement import Placement, Reservation
from .planner.node_row import groups_of, row_of
from .planner.snapshot import Assignment, Need, NodeState
from .rows import Rows


@dataclass(frozen=True)
class Usage:
    """What replicas hold together."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    replicas: int = 0

    def plus(self, reserved: Reservation) -> Usage:
        """With one more replica."""
        return Usage(
            self.cpu_millis + reserved.cpu_millis,
            self.memory_bytes + reserved.memory_bytes,
            self.disk_bytes + reserved.disk_bytes,
            self.replicas + 1,
        )


def refusal(rows: Rows, state: NodeState | None, need: Need, assignment: Assignment) -> str:
    """Why this assignment must not be committed; empty when it may."""
    if state is None or state.uid != assignment.node_uid:
        return f"node {assignment.node_name} is gone"
    if state.phase != "ready":
        return f"node {assignment.node_name} is {state.phase}"
    spec = state.node.spec
    if spec.cordoned or spec.drained:
        return f"node {assignment.node_name} is {'drained' if spec.drained else 'cordoned'}"
    if assignment.node_name in need.avoid or (need.node and need.node != assignment.node_name):
        return f"node {assignment.node_name} was not to be chosen"
    return _over_capacity(rows, state, assignment) or _over_quota(rows, assignment)


def usage_of(placements: Iterable[Placement]) -> Usage:
    """What these replicas hold together."""
    usage = Usage()
    for placement in placements:
        usage = usage.plus(placement.reserved or Reservation())
    return usage


def _over_capacity(rows: Rows, state: NodeState, assignment: Assignment) -> str:
    capacity = row_of(state, groups_of((), ()))
    asked = assignment.reserved
    usage = usage_of(rows.placements_on(state.uid)).plus(asked)
    over = (
        (asked.cpu_millis, usage.cpu_millis, capacity.cpu_millis, "cpu"),
        (asked.memory_bytes, usage.memory_bytes, capacity.memory_bytes, "memory"),
        (asked.disk_bytes, usage.disk_bytes, capacity.disk_bytes, "disk"),
    )
    for wanted, used, has, what in over:
        if wanted and used > has:
            return f"node {assignment.node_name} has no {what} left for it"
    return _over_accelerators(rows, state.node, state.uid, assignment)


def _over_accelerators(rows: Rows, node: Node, uid: str, assignment: Assignment) -> str:
    described = node.spec.accelerators or (node.status.accelerators if node.status else ())
    for hold in assignment.reserved.accelerators:
        kind = (hold.type, hold.model, hold.memory_bytes)
        has = sum(one.count for one in described if (one.type, one.model or "", one.memory) == kind)
        held = sum(
            other.count
            for placement in rows.placements_on(uid)
            for other in (placement.reserved or Reservation()).accelerators
            if (other.type, other.model, other.memory_bytes) == kind
        )
        if held + hold.count > has:
            return f"node {assignment.node_name} has no {hold.type} left for it"
    return ""


def _over_quota(rows: Rows, assignment: Assignment) -> str:
    quotas = rows.slice.spec.quotas
    if quotas.cpu is None and quotas.memory is None and quotas.replicas is None:
        return ""
    replaced = {placement.replaces for placement in rows.placements.values() if placement.wanted == "run"}
    counted = (
        placement
        for placement in rows.placements.values()
        if placement.wanted == "run" and not placement.lost and placement.id not in {*replaced, assignment.replaces}
    )
    usage = usage_of(counted).plus(assignment.reserved)
    if quotas.replicas is not None and usage.replicas > quotas.replicas:
        return f"the slice's quota of {quotas.replicas} replicas is reached"
    if quotas.cpu is not None and usage.cpu_millis > round(quotas.cpu * 1000):
        return f"the slice's quota of {quotas.cpu:g} cores is reached"
    if quotas.memory is not None and usage.memory_bytes > quotas.memory:
        return f"the slice's quota of {quotas.memory} bytes of memory is reached"
    return ""
