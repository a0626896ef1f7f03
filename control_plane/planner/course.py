"""Lets the reconciler and the planner run over a snapshot until nothing changes any more: where things would end up.

Time stands still, every new replica is ready at once, and what it replaces is gone: the end of the story, not its
course. Used by `what_if.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from ...descriptions.kinds.application import Component
from ..placement import Placement
from ..reconcile import Situation, Standing, heads_of, reconcile
from .order import in_order
from .policies import Policies
from .round import Round
from .snapshot import Decision, Need, NodeState, Snapshot
from .table import Table

ROUNDS_MAX = 256
"""A rolling update takes a round for each `maxSurge` replicas; what takes more is told as far as it got."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Event:
    """What happens to one replica on the way."""

    key: Key
    replica: str
    """Empty for a new one."""
    before: str
    """Node name; empty for a new one."""
    after: str
    """Node name; empty for one that stops or finds no node."""
    reason: str
    is_unplaced: bool = False

    @property
    def what(self) -> tuple[object, ...]:
        """All but the reason, whose numbers may differ where nothing else does."""
        return (self.key, self.replica, self.before, self.after, self.is_unplaced)


class Course:
    """A snapshot on its way; `outdated` are components whose replicas must be brought to a new description."""

    def __init__(self, snapshot: Snapshot, outdated: frozenset[Key], policies: Policies, seed: int) -> None:
        self.events: list[Event] = []
        self._snapshot = snapshot
        self._policies = policies
        self._seed = seed
        self._components = {
            (one.metadata.name, part.name): part for one in snapshot.applications for part in one.spec.components
        }
        self._rows: dict[Key, dict[str, Placement]] = {}
        self._ordinals: dict[Key, int] = {}
        self._revisions: dict[Key, int] = {}
        for row in snapshot.placements:
            key = (row.application, row.component)
            self._rows.setdefault(key, {})[row.id] = row
            self._ordinals[key] = max(row.ordinal, self._ordinals.get(key, 0))
            self._revisions[key] = max(row.revision, self._revisions.get(key, 1))
        for key in outdated:
            self._revisions[key] = self._revisions.get(key, 0) + 1
        self._nodes = {state.uid: _standing(state, snapshot.now_s) for state in snapshot.nodes if state.uid}

    def run(self) -> None:
        """Go on until nothing changes; `events` tell what did."""
        table: Table | None = None
        for _ in range(ROUNDS_MAX):
            needs = [need for key in sorted(self._components.keys() | self._rows.keys()) for need in self._settle(key)]
            placements = tuple(row for rows in self._rows.values() for row in rows.values())
            table = Table(replace(self._snapshot, placements=placements), table)
            table.begin()
            current = Round(table, self._policies, self._seed)
            decisions = [current.decide(need) for need in in_order(table, needs)]
            placed = [self._place(decision) for decision in decisions]
            if not any(placed):
                self.events += [event for decision in decisions for event in self._unplaced(decision)]
                return

    def _settle(self, key: Key) -> tuple[Need, ...]:
        """Stop what should not run; what is missing is the answer."""
        difference = reconcile(self._situation(key))
        rows = self._rows.get(key, {})
        for stop in difference.stops:
            row = rows.pop(stop.id, None)
            if row is not None and row.wanted == "run":
                self.events.append(Event(key, row.id, row.node_name, "", stop.reason))
        for replica_id in difference.forget:
            rows.pop(replica_id, None)
        for replica_id in (*difference.give_up, *difference.recover):
            if replica_id in rows:
                is_lost = replica_id in difference.give_up
                rows[replica_id] = msgspec.structs.replace(rows[replica_id], lost=is_lost)
        return difference.needs

    def _situation(self, key: Key) -> Situation:
        mine = tuple(self._rows.get(key, {}).values())
        component = self._components.get(key)
        return Situation(
            application=key[0],
            name=key[1],
            component=component,
            revision=self._revisions.get(key, 1),
            count=_count(component, len(heads_of(row for row in mine if row.wanted == "run"))),
            placements=mine,
            nodes={row.node_uid: self._nodes[row.node_uid] for row in mine if row.node_uid in self._nodes},
            now_s=self._snapshot.now_s,
            replace_after=self._snapshot.slice.spec.failover.replace_after,
        )

    def _place(self, decision: Decision) -> bool:
        """Let what was decided be so; whether that is anything."""
        need = decision.need
        key = (need.application, need.component)
        rows = self._rows.setdefault(key, {})
        for assignment in decision.assignments:
            old = rows.pop(assignment.replaces, None)
            ordinal = self._ordinals[key] = self._ordinals.get(key, 0) + 1
            new = Placement(
                id=f"{need.key}.{ordinal}",
                application=need.application,
                component=need.component,
                ordinal=ordinal,
                node_uid=assignment.node_uid,
                node_name=assignment.node_name,
                revision=self._revisions.get(key, 1),
                phase="ready",
                reserved=assignment.reserved,
            )
            rows[new.id] = new
            before = old.node_name if old else ""
            self.events.append(Event(key, old.id if old else "", before, new.node_name, _REASONS[need.cause]))
        return bool(decision.assignments)

    def _unplaced(self, decision: Decision) -> Iterator[Event]:
        need = decision.need
        key = (need.application, need.component)
        rows = self._rows.get(key, {})
        for replica_id in (*need.replaces, *[""] * decision.unplaced)[: decision.unplaced]:
            before = rows[replica_id].node_name if replica_id in rows else ""
            yield Event(key, replica_id, before, "", decision.summary, is_unplaced=True)


_REASONS = {
    "initial": "it is new",
    "scale": "more replicas are wanted",
    "update": "its description changes",
    "replace": "its node is gone",
    "move": "a policy moves it",
    "drain": "its node is drained",
}


def _count(component: Component | None, running: int) -> int:
    """Replicas that should run; where a signal decides, as many as do, within the new bounds."""
    if component is None:
        return 0
    if component.scaling is None:
        return component.replicas
    return min(max(running or 1, component.scaling.min), component.scaling.max)


def _standing(state: NodeState, now_s: float) -> Standing:
    spec = state.node.spec
    # A node that is away now has just gone: what-if is about the change, not about waiting.
    return Standing(
        state.node.metadata.name,
        state.phase,
        gone_s=now_s,
        is_drained=spec.drained,
        is_cordoned=spec.cordoned,
    )
