"""Turns a snapshot into the columns that decisions are made over, and keeps them from one snapshot to the next.

Nodes whose description, phase and report are the same objects as before are not read again, and placements that are
equal are not counted again, so a new snapshot costs little more than its changes. `decide.py` and `explain.py` read
and take; `ledger.py` does the sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ...descriptions.kinds import Application, Model
from ...descriptions.kinds.application import Component
from ...policies.relations import Relations, ranks_of, relations_of
from ...policies.request import request_of
from ...policies.view import Replica, Replicas
from ..placement import Placement, Reservation
from .layout import Layout, layout_of
from .node_row import NodeRow
from .snapshot import Snapshot


@dataclass
class Totals:
    """Of the replicas that count towards the slice's quotas: wanted, not lost, not being replaced."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    replicas: int = 0

    def add(self, held: Reservation, count: int = 1) -> None:
        """Count one more, or one less with `count=-1`."""
        self.cpu_millis += count * held.cpu_millis
        self.memory_bytes += count * held.memory_bytes
        self.replicas += count


class Table:
    """A snapshot as columns, with a working copy that decisions take from."""

    def __init__(self, snapshot: Snapshot, previous: Table | None = None) -> None:
        """Build from `previous` where there is one; it must not be used afterwards."""
        if previous is not None:
            previous.begin()
        self.snapshot = snapshot
        self.applications = {one.metadata.name: one for one in snapshot.applications}
        self.models = {one.metadata.name: one for one in snapshot.models}
        self._read: dict[str, _Read] = previous._read if previous else {}
        self.layout: Layout = layout_of(snapshot, previous.layout if previous else None)
        self.nodes, self.network, self.ledger = self.layout.nodes, self.layout.network, self.layout.ledger
        kept = previous if previous and previous.layout is self.layout else None
        self._placed: dict[str, _Placed] = kept._placed if kept else {}
        self.replicas: Replicas = kept.replicas if kept else Replicas()
        self.totals: Totals = kept.totals if kept else Totals()
        self._journal: list[tuple[Replica, Reservation, int]] = []
        self._count_placements()
        self.ledger.reset()

    @property
    def rows(self) -> tuple[NodeRow, ...]:
        """One a node, sorted by name."""
        return self.layout.rows

    def component(self, application: str, component: str) -> tuple[Application, Component] | None:
        """The description of a component, or None where there is none."""
        described = self.applications.get(application)
        if described is None:
            return None
        part = self._of(described).parts.get(component)
        return None if part is None else (described, part)

    def relations(self, application: Application) -> Relations:
        """Who refers to whom in one of the snapshot's applications."""
        return self._of(application).relations

    def ranks(self, application: Application) -> Mapping[str, int]:
        """In which order the components of one of the snapshot's applications are decided."""
        return self._of(application).ranks

    def _of(self, application: Application) -> _Read:
        read = self._read.get(application.metadata.name)
        if read is None or read.application is not application:
            parts = {part.name: part for part in application.spec.components}
            read = self._read[application.metadata.name] = _Read(
                application, parts, relations_of(application), ranks_of(application)
            )
        return read

    def begin(self) -> None:
        """Start a proposal: forget what the last one took and retired."""
        for replica, held, count in reversed(self._journal):
            self._undo(replica, held, count)
        self._journal.clear()
        self.ledger.reset()
        self.nodes.moved()

    def mark(self) -> int:
        """A point to `roll_back` to."""
        return len(self._journal)

    def roll_back(self, mark: int) -> None:
        """Give back everything that was placed since `mark`, and count again what was retired since."""
        while len(self._journal) > mark:
            replica, held, count = self._journal.pop()
            self._undo(replica, held, count)
            if count > 0:
                self.ledger.give_back(replica.row, held)
        self.nodes.moved()

    def retire(self, replica_id: str) -> None:
        """Stop counting a replica towards affinity, spread, interactions and quotas."""
        placed = self._placed.get(replica_id)
        if placed is None or not placed.counts:
            return
        row = placed.placement
        replica = self.replicas.remove(row.application, row.component, replica_id)
        if replica is not None:
            self.totals.add(placed.held, -1)
            self._journal.append((replica, placed.held, -1))

    def lift(self, replica_id: str) -> None:
        """As `retire`, and free what it holds, as though it were not there."""
        placed = self._placed.get(replica_id)
        self.retire(replica_id)
        if placed is not None and placed.node_row is not None:
            self.ledger.give_back(placed.node_row, placed.held)

    def place(self, application: str, component: str, row: int, held: Reservation) -> None:
        """Count a replica that was just decided; its resources are taken from the ledger already."""
        replica = Replica("", application, component, self.nodes.names[row], row, False)
        self.replicas.add(replica)
        self.totals.add(held)
        self._journal.append((replica, held, 1))
        self.nodes.moved()

    def digest(self) -> bytes:
        """Of every column as it is now, 16 bytes: equal inputs, equal digest."""
        digest = hashlib.blake2b(self.layout.digest, digest_size=16)
        digest.update(self.ledger.free.tobytes())
        return digest.digest()

    def running(self, application: str, component: str) -> tuple[Placement, ...]:
        """Committed placements of a component that are wanted, lost ones included, by ordinal."""
        mine = [
            placed.placement
            for placed in self._placed.values()
            if placed.placement.application == application
            and placed.placement.component == component
            and placed.placement.wanted == "run"
        ]
        return tuple(sorted(mine, key=lambda placement: placement.ordinal))

    def _undo(self, replica: Replica, held: Reservation, count: int) -> None:
        if count > 0:
            self.replicas.take_back(replica)
        else:
            self.replicas.insert(replica)
        self.totals.add(held, -count)

    def _count_placements(self) -> None:
        placements, placed = self.snapshot.placements, self._placed
        # A replica that another one is to replace holds its resources, and counts for nothing else.
        replaced = {placement.replaces for placement in placements if placement.replaces and _is_wanted(placement)}
        changed = [one for one in placements if not _is_counted(one, placed.get(one.id), one.id not in replaced)]
        if len(placed) + len(changed) != len(placements) or changed:
            changed.sort(key=lambda placement: placement.id)
            gone = (placed.keys() - {placement.id for placement in placements}) | {one.id for one in changed}
            for replica_id in sorted(gone & placed.keys()):
                self._uncount(placed.pop(replica_id))
            for one in changed:
                placed[one.id] = self._count(one, one.id not in replaced)

    def _count(self, placement: Placement, is_head: bool) -> _Placed:
        held = placement.reserved or self._described(placement)
        row = self._row(placement)
        counts = is_head and _is_wanted(placement)
        if row is not None:
            self.ledger.commit(row, held)
        if counts:
            self.totals.add(held)
            if row is not None:
                self.replicas.insert(_replica(placement, row))
        return _Placed(placement, held, row, is_head, counts)

    def _uncount(self, placed: _Placed) -> None:
        placement = placed.placement
        if placed.node_row is not None:
            self.ledger.commit(placed.node_row, placed.held, -1)
        if placed.counts:
            self.totals.add(placed.held, -1)
            self.replicas.remove(placement.application, placement.component, placement.id)

    def _row(self, placement: Placement) -> int | None:
        row = self.nodes.row_of.get(placement.node_name)
        # A node that was made anew under the same name has another uid: what stood on the old one isn't on it.
        if row is None or (self.rows[row].state.uid or placement.node_uid) != placement.node_uid:
            return None
        return row

    def _described(self, placement: Placement) -> Reservation:
        """What the component asks for now, for a placement that does not say what it reserved."""
        found = self.component(placement.application, placement.component)
        if found is None:
            return Reservation()
        request = request_of(found[1], model_of(found[1], self.models))
        return Reservation(request.cpu_millis, request.memory_bytes, request.disk_bytes)


@dataclass(frozen=True)
class _Read:
    """An application as it was read."""

    application: Application
    parts: Mapping[str, Component]
    relations: Relations
    ranks: Mapping[str, int]


@dataclass(frozen=True)
class _Placed:
    """A committed placement as it was counted."""

    placement: Placement
    held: Reservation
    node_row: int | None
    is_head: bool
    counts: bool


def _is_counted(placement: Placement, placed: _Placed | None, is_head: bool) -> bool:
    """Whether it is counted as it is; one without a reservation never is, as its description may have changed."""
    if placed is None or placed.is_head != is_head or placement.reserved is None:
        return False
    return placed.placement is placement or placed.placement == placement


def _is_wanted(placement: Placement) -> bool:
    return placement.wanted == "run" and not placement.lost


def model_of(component: Component, models: Mapping[str, Model]) -> Model | None:
    """The Model that an inference component serves, where it is described."""
    return models.get(component.inference.model) if component.inference else None


def _replica(placement: Placement, row: int) -> Replica:
    return Replica(
        placement.id,
        placement.application,
        placement.component,
        placement.node_name,
        row,
        placement.phase == "ready",
    )
