"""What one event changes: rows that are written at once into `Rows` and, at the end, into one `Commit`.

The cores write through a `Draft`, so that it can note which nodes, models, components and statuses a change touches;
`core.py` makes the effects of it when the event is dealt with.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ..descriptions.kinds import Rollout
from .component_state import ComponentState, Revision
from .effects import Delete, Effect, Happening, Put, PutStatus, Status, Tell, Write
from .placement import PLACEMENT_KIND, Placement
from .planner.snapshot import Decision
from .rows import Key, Rows, kind_of, name_of


@dataclass
class Draft:
    """The changes of one event so far."""

    id: str
    now_s: float
    rows: Rows
    writes: dict[tuple[str, str], Write] = field(default_factory=dict)
    keys: set[Key] = field(default_factory=set)
    """Components to reconcile."""
    described: set[Key] = field(default_factory=set)
    """Components whose description, model or secrets may have changed."""
    nodes: set[str] = field(default_factory=set)
    """Uids whose document may have changed."""
    models: set[str] = field(default_factory=set)
    """Models whose routes may have changed."""
    stale: set[tuple[str, str]] = field(default_factory=set)
    """Kind and name of objects whose status may have changed."""
    decisions: list[Decision] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Uids that are gone for good."""
    reissued: set[str] = field(default_factory=set)
    """Uids whose document gets a new generation whatever its digest."""
    has_room: bool = False
    """Something happened that may give a blocked need a place."""
    effects: list[Effect] = field(default_factory=list)
    answers: list[Effect] = field(default_factory=list)
    """Given once the commit is on disk."""

    def put(self, value: Placement | Revision | ComponentState | Rollout) -> None:
        """Write a row of our own."""
        before = self.rows.put(value)
        if before == value:
            return
        self.writes[kind_of(value), name_of(value)] = Put(value)
        if isinstance(value, Placement):
            self._touch(value, before if isinstance(before, Placement) else None)
        elif isinstance(value, Rollout):
            self.stale.add(("Application", value.spec.application))

    def delete(self, kind: str, name: str) -> None:
        """Delete a row of our own."""
        before = self.rows.remove(kind, name)
        if before is None:
            return
        self.writes[kind, name] = Delete(kind, name)
        if isinstance(before, Placement):
            self.has_room = True
            self._touch(before, None)

    def put_status(self, kind: str, name: str, status: Status) -> None:
        """Write the status of an object; the caller has put it into `rows`."""
        self.writes[kind, name] = PutStatus(kind, name, status)

    def tell(self, happening: Happening) -> None:
        """Let people know."""
        self.effects.append(Tell(self.id, happening))

    def forget_placement(self, placement: Placement) -> None:
        """A replica is gone; the one that replaced it takes its place in the chain."""
        for other in self.rows.placements_of((placement.application, placement.component)):
            if other.replaces == placement.id and placement.replaces in self.rows.placements:
                self.put(msgspec.structs.replace(other, replaces=placement.replaces))
        self.delete(PLACEMENT_KIND, placement.id)

    def _touch(self, placement: Placement, before: Placement | None) -> None:
        key = (placement.application, placement.component)
        self.keys.add(key)
        self.stale.add(("Application", placement.application))
        if model := self.rows.model_of(placement):
            self.models.add(model)
        if before is not None and _told_of(before) == _told_of(placement):
            return
        # Whether a replica may start, or start again, hangs on those it replaces and is replaced by.
        for other in self.rows.placements_of(key):
            if placement.id in (other.id, other.replaces) or other.id == placement.replaces:
                self.nodes.add(other.node_uid)
        self.nodes.add(placement.node_uid)


def _told_of(placement: Placement) -> tuple[object, ...]:
    """What of a placement may show in a node's document."""
    return placement.revision, placement.wanted, placement.lost, placement.replaces
