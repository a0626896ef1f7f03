"""Reads over one consistent snapshot: what `store.read(fn)` and, inside a write, `fn(tx)` see.

Turns rows into the records of `records.py`. Every list is bounded by the caller's limit and in a fixed order.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, bindparam, func, select

from .records import (
    AuditEntry,
    AuditQuery,
    Change,
    DecisionEntry,
    DecisionQuery,
    EventEntry,
    EventQuery,
    IdempotentReply,
    Leader,
    Logged,
    Operation,
    Page,
    Severity,
    StoredObject,
)
from .schema import audit, counters, decisions, events, idempotency, leader, objects, stream_positions, tombstones

PAGE_ROWS_MAX = 10_000
NAMES_PER_SELECT = 500
"""Databases bound the parameters of a statement."""
RECORD_BYTES_MAX = 16 * 1024 * 1024
"""A compressed decision record may unfold to this much."""

ONE_OBJECT = select(objects).where(objects.c.kind == bindparam("of_kind"), objects.c.name == bindparam("of_name"))
"""Built once: making the statement costs more than running it."""

_GONE = (
    tombstones.c.kind,
    tombstones.c.name,
    tombstones.c.uid,
    tombstones.c.resource_version,
    tombstones.c.generation,
    tombstones.c.created_ms,
    tombstones.c.at_ms,
    tombstones.c.doc,
    tombstones.c.version,
)
"""The columns of a tombstone in the order of `StoredObject`'s fields, then the version of the delete."""


class ReadTransaction:
    """One snapshot of the database. Not for use after the function that got it has returned."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def version(self) -> int:
        """The newest committed version in this snapshot."""
        return int(self._connection.execute(select(counters.c.resource_version)).scalar_one())

    def get(self, kind: str, name: str) -> StoredObject | None:
        """One object, or None."""
        row = self._connection.execute(ONE_OBJECT, {"of_kind": kind, "of_name": name}).first()
        return None if row is None else StoredObject(*row)

    def get_many(self, kind: str, names: Sequence[str]) -> dict[str, StoredObject]:
        """Those of these objects that exist, by name."""
        found: dict[str, StoredObject] = {}
        for start in range(0, len(names), NAMES_PER_SELECT):
            chunk = names[start : start + NAMES_PER_SELECT]
            wanted = select(objects).where(objects.c.kind == kind, objects.c.name.in_(chunk))
            found |= {row.name: StoredObject(*row) for row in self._connection.execute(wanted)}
        return found

    def get_by_uid(self, uid: str) -> StoredObject | None:
        """The live object with this uid, or None."""
        row = self._connection.execute(select(objects).where(objects.c.uid == uid)).first()
        return None if row is None else StoredObject(*row)

    def all(self, kind: str) -> tuple[StoredObject, ...]:
        """Every object of a kind in order of name. For kinds that quotas keep small; otherwise use `page`."""
        rows = self._connection.execute(select(objects).where(objects.c.kind == kind).order_by(objects.c.name))
        return tuple(StoredObject(*row) for row in rows)

    def with_prefix(self, kind: str, prefix: str) -> tuple[StoredObject, ...]:
        """Objects of a kind whose names begin with `prefix`, in order of name."""
        wanted = select(objects).where(objects.c.kind == kind, objects.c.name.startswith(prefix, autoescape=True))
        return tuple(StoredObject(*row) for row in self._connection.execute(wanted.order_by(objects.c.name)))

    def page(self, kind: str, *, after: str = "", limit: int = 500) -> Page:
        """Up to `limit` objects of a kind whose names sort behind `after`."""
        limit = _bounded(limit)
        wanted = select(objects).where(objects.c.kind == kind, objects.c.name > after)
        rows = self._connection.execute(wanted.order_by(objects.c.name).limit(limit + 1)).all()
        found = tuple(StoredObject(*row) for row in rows[:limit])
        return Page(found, self.version, found[-1].name if len(rows) > limit else None)

    def count(self, kind: str) -> int:
        """How many objects of a kind exist."""
        return int(self._connection.execute(select(func.count()).where(objects.c.kind == kind)).scalar_one())

    def changes_since(self, since: int, kinds: Collection[str], *, limit: int) -> tuple[Sequence[Change], int]:
        """What became of every object that changed after `since`, and up to which version that is complete.

        An object that changed several times comes once, as it is now: a watch that was away needs the state, not each
        step to it. No kinds means all. The caller compares `since` with `deletes_compacted` first.
        """
        put, gone = _changed(since, kinds, limit)
        changes = [_put(StoredObject(*row)) for row in self._connection.execute(put)]
        changes += [_deletion(tuple(row)) for row in self._connection.execute(gone)]
        changes.sort(key=lambda change: change.version)
        if len(changes) < limit:
            return changes, self.version
        return changes[:limit], changes[limit - 1].version

    @property
    def deletes_compacted(self) -> int:
        """Deletes up to this version are forgotten."""
        return int(self._connection.execute(select(counters.c.tombstones_compacted)).scalar_one())

    @property
    def events_compacted(self) -> int:
        """Events up to this version are forgotten."""
        return int(self._connection.execute(select(counters.c.events_compacted)).scalar_one())

    def leader(self) -> Leader:
        """Who may commit, as of this snapshot."""
        row = self._connection.execute(select(leader)).one()
        return Leader(row.holder, row.fence, row.epoch, row.since_ms)

    def stream_position(self, node_uid: str, stream: str) -> int:
        """Last applied sequence number of a node's stream; 0 before the first."""
        wanted = select(stream_positions.c.last_seq).where(
            stream_positions.c.node_uid == node_uid, stream_positions.c.stream == stream
        )
        return int(self._connection.execute(wanted).scalar_one_or_none() or 0)

    def stream_positions(self) -> dict[tuple[str, str], int]:
        """All positions by (node uid, stream), as the control plane needs them after a start."""
        rows = self._connection.execute(select(stream_positions))
        return {(row.node_uid, row.stream): row.last_seq for row in rows}

    def events(self, query: EventQuery) -> tuple[Logged[EventEntry], ...]:
        """Events that match, in the order the query asks for."""
        wanted = select(events).where(events.c.version > query.after_version)
        for column in (events.c.kind, events.c.name, events.c.application, events.c.node, events.c.reason):
            wanted = _matching(wanted, column, getattr(query, column.name))
        wanted = _before(wanted, events, query.before_version)
        order = events.c.version.desc() if query.newest_first else events.c.version
        rows = self._connection.execute(wanted.order_by(order).limit(_bounded(query.limit)))
        return tuple(_event(row) for row in rows)

    def decision(self, decision_id: str) -> Logged[DecisionEntry] | None:
        """One decision by its id."""
        row = self._connection.execute(select(decisions).where(decisions.c.id == decision_id)).first()
        return None if row is None else _decision(row)

    def decisions(self, query: DecisionQuery) -> tuple[Logged[DecisionEntry], ...]:
        """Decisions that match, newest first."""
        wanted = select(decisions).where(decisions.c.at_ms >= query.since_ms)
        for column in (decisions.c.application, decisions.c.component, decisions.c.outcome):
            wanted = _matching(wanted, column, getattr(query, column.name))
        if query.until_ms is not None:
            wanted = wanted.where(decisions.c.at_ms < query.until_ms)
        wanted = _before(wanted, decisions, query.before_version)
        rows = self._connection.execute(wanted.order_by(decisions.c.version.desc()).limit(_bounded(query.limit)))
        return tuple(_decision(row) for row in rows)

    def audit(self, query: AuditQuery) -> tuple[Logged[AuditEntry], ...]:
        """Audit rows that match, newest first."""
        wanted = select(audit)
        for column in (audit.c.actor, audit.c.kind, audit.c.name):
            wanted = _matching(wanted, column, getattr(query, column.name))
        wanted = _before(wanted, audit, query.before_version)
        rows = self._connection.execute(wanted.order_by(audit.c.version.desc()).limit(_bounded(query.limit)))
        return tuple(Logged(row.version, row.at_ms, AuditEntry(*tuple(row)[2:])) for row in rows)

    def reply(self, principal: str, key: str) -> IdempotentReply | None:
        """The answer kept for an `Idempotency-Key`, or None."""
        wanted = select(idempotency).where(idempotency.c.principal == principal, idempotency.c.key == key)
        row = self._connection.execute(wanted).first()
        if row is None:
            return None
        headers = tuple((name, value) for name, value in json.loads(row.headers))
        return IdempotentReply(row.principal, row.key, row.fingerprint, row.status, row.body, headers)


def _changed(
    since: int, kinds: Collection[str], limit: int
) -> tuple[Select[*tuple[Any, ...]], Select[*tuple[Any, ...]]]:
    put = select(objects).where(objects.c.resource_version > since).order_by(objects.c.resource_version).limit(limit)
    gone = select(*_GONE).where(tombstones.c.version > since).order_by(tombstones.c.version).limit(limit)
    if kinds:
        named = sorted(kinds)
        put = put.where(objects.c.kind.in_(named))
        gone = gone.where(tombstones.c.kind.in_(named))
    return put, gone


def _put(after: StoredObject) -> Change:
    return Change(after.resource_version, Operation.PUT, after)


def _deletion(row: tuple[Any, ...]) -> Change:
    *last, version = row
    return Change(version, Operation.DELETE, StoredObject(*last))


def _matching(wanted: Select[*tuple[Any, ...]], column: ColumnElement[str], value: str) -> Select[*tuple[Any, ...]]:
    return wanted.where(column == value) if value else wanted


def _before(wanted: Select[*tuple[Any, ...]], table: Table, version: int | None) -> Select[*tuple[Any, ...]]:
    return wanted if version is None else wanted.where(table.c.version < version)


def _bounded(limit: int) -> int:
    return max(1, min(limit, PAGE_ROWS_MAX))


def _event(row: Row[Any]) -> Logged[EventEntry]:
    entry = EventEntry(
        reason=row.reason,
        message=row.message,
        kind=row.kind,
        name=row.name,
        severity=Severity(row.severity),
        application=row.application,
        node=row.node,
        detail=row.detail,
    )
    return Logged(row.version, row.at_ms, entry)


def _decision(row: Row[Any]) -> Logged[DecisionEntry]:
    record = zlib.decompressobj().decompress(row.record, RECORD_BYTES_MAX)
    return Logged(row.version, row.at_ms, DecisionEntry(row.id, row.application, row.component, row.outcome, record))
