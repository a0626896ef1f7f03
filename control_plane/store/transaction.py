"""Writes: what `fn(tx)` may do inside the one writer thread.

Each method changes rows at once and notes in `Pending` what the commit will have to tell the watches. Versions and
generations come from counters that are written back in the same commit, so they never go back and never repeat.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from .errors import ConflictError, FencedError
from .reading import NAMES_PER_SELECT, ONE_OBJECT, ReadTransaction
from .records import (
    DOC_BYTES_MAX,
    MESSAGE_CHARS_MAX,
    NAME_CHARS_MAX,
    AuditEntry,
    Change,
    DecisionEntry,
    EventEntry,
    IdempotentReply,
    Leader,
    Logged,
    Operation,
    Put,
    StoredObject,
)
from .schema import audit, decisions, events, idempotency, leader, objects, stream_positions, tombstones

COMPRESSION_LEVEL = 1
"""zlib's fastest: decision records are JSON and shrink well at any level."""

_ONE_TO_CHANGE = ONE_OBJECT.with_for_update()
_INSERT_OBJECT = insert(objects)
_APPEND = {table.name: insert(table) for table in (events, decisions, audit, idempotency, tombstones)}
_UPDATE_OBJECT = (
    update(objects)
    .where(objects.c.kind == bindparam("of_kind"), objects.c.name == bindparam("of_name"))
    .values({name: bindparam(f"to_{name}") for name in ("resource_version", "generation", "updated_ms", "doc")})
)


@dataclass
class Pending:
    """What the open commit has used and done so far; shared by the jobs of one group."""

    version: int
    generation: int
    now_ms: int
    changes: list[Change] = field(default_factory=list)
    events: list[Logged[EventEntry]] = field(default_factory=list)
    appended: Counter[str] = field(default_factory=Counter)

    def mark(self) -> Mark:
        """Where a job begins, to go back to if it fails."""
        return Mark(self.version, self.generation, len(self.changes), len(self.events), self.appended.copy())

    def reset(self, mark: Mark) -> None:
        """Forget what came after the mark; the caller rolls the rows back."""
        self.version, self.generation = mark.version, mark.generation
        del self.changes[mark.changes :]
        del self.events[mark.events :]
        self.appended = mark.appended


@dataclass(frozen=True)
class Mark:
    """A place in `Pending`."""

    version: int
    generation: int
    changes: int
    events: int
    appended: Counter[str]


class Transaction(ReadTransaction):
    """Reads and writes of one job; all of them are committed together, or none."""

    def __init__(self, connection: Connection, pending: Pending) -> None:
        super().__init__(connection)
        self._pending = pending

    @property
    def version(self) -> int:
        """The newest version, those of this commit included."""
        return self._pending.version

    @property
    def now_ms(self) -> int:
        """The time that rows of this commit carry."""
        return self._pending.now_ms

    def put(
        self,
        kind: str,
        name: str,
        doc: bytes,
        *,
        expected_version: int | None = None,
        new_generation: bool = False,
        uid: str | None = None,
    ) -> StoredObject:
        """Create or replace one object; see `Put`. Raises `ConflictError` when it isn't at `expected_version`."""
        return self.put_many((Put(kind, name, doc, expected_version, new_generation, uid),))[0]

    def put_many(self, puts: Sequence[Put]) -> list[StoredObject]:
        """Create or replace many objects at once, in the order given.

        An object whose document is the same as before, and whose generation doesn't grow, keeps its version: nothing
        is written and no watch is told. Raises `ConflictError` for the first that isn't as expected; nothing of this
        call counts then. Naming an object twice is a mistake of the caller.
        """
        current = self._current(puts)
        results = [self._next_state(put, current.get((put.kind, put.name))) for put in puts]
        fresh: list[StoredObject] = []
        changed: list[StoredObject] = []
        for after in results:
            before = current.get((after.kind, after.name))
            if before is None:
                fresh.append(after)
            elif after is not before:
                changed.append(after)
            if after is not before:
                self._pending.changes.append(Change(after.resource_version, Operation.PUT, after))
        if fresh:
            self._connection.execute(_INSERT_OBJECT, [_columns(row) for row in fresh])
        if changed:
            self._connection.execute(_UPDATE_OBJECT, [_update_values(row) for row in changed])
        return results

    def delete(self, kind: str, name: str, *, expected_version: int | None = None) -> StoredObject:
        """Delete an object and return its last state. Raises `ConflictError` if it is absent or at another version."""
        last = self.get(kind, name)
        if last is None or expected_version not in (None, last.resource_version):
            current = None if last is None else last.resource_version
            raise ConflictError(kind, name, expected=expected_version, current=current)
        self._connection.execute(delete(objects).where(objects.c.kind == kind, objects.c.name == name))
        version = self._next_version()
        row = _columns(last) | {"version": version, "at_ms": self.now_ms}
        del row["updated_ms"]
        self._append(tombstones, [row])
        self._pending.changes.append(Change(version, Operation.DELETE, last))
        return last

    def delete_many(self, kind: str, names: Sequence[str]) -> list[StoredObject]:
        """Delete those of these objects that exist; returns their last states, in order of name."""
        gone = [row for _, row in sorted(self.get_many(kind, names).items())]
        for chunk in _chunks([row.name for row in gone]):
            self._connection.execute(delete(objects).where(objects.c.kind == kind, objects.c.name.in_(chunk)))
        buried = []
        for row in gone:
            version = self._next_version()
            columns = _columns(row) | {"version": version, "at_ms": self.now_ms}
            del columns["updated_ms"]
            buried.append(columns)
            self._pending.changes.append(Change(version, Operation.DELETE, row))
        self._append(tombstones, buried)
        return gone

    def append_event(self, entry: EventEntry) -> Logged[EventEntry]:
        """Add one event; see `append_events`."""
        return self.append_events((entry,))[0]

    def append_events(self, entries: Iterable[EventEntry]) -> list[Logged[EventEntry]]:
        """Add events in the order given; followers see them after the commit. A long message is cut, not refused."""
        logged = [Logged(self._next_version(), self.now_ms, entry) for entry in entries]
        rows: list[dict[str, object]] = [
            {
                "version": row.version,
                "at_ms": row.at_ms,
                "reason": row.entry.reason,
                "severity": row.entry.severity.value,
                "kind": row.entry.kind,
                "name": row.entry.name,
                "application": row.entry.application,
                "node": row.entry.node,
                "message": _storable(row.entry.message),
                "detail": _checked_doc(row.entry.detail),
            }
            for row in logged
        ]
        self._append(events, rows)
        self._pending.events.extend(logged)
        return logged

    def append_decision(self, entry: DecisionEntry) -> None:
        """Add one decision; see `append_decisions`."""
        self.append_decisions((entry,))

    def append_decisions(self, entries: Iterable[DecisionEntry]) -> None:
        """Add decisions; their ids are the caller's and unique for ever."""
        rows: list[dict[str, object]] = [
            {
                "version": self._next_version(),
                "at_ms": self.now_ms,
                "id": entry.id,
                "application": entry.application,
                "component": entry.component,
                "outcome": entry.outcome,
                "record": zlib.compress(entry.record, COMPRESSION_LEVEL),
            }
            for entry in entries
        ]
        self._append(decisions, rows)

    def append_audit(self, entry: AuditEntry) -> int:
        """Add one audit row and return its version; belongs in the transaction of what it tells of."""
        version = self._next_version()
        row: dict[str, object] = {name: getattr(entry, name) for name in entry.__slots__}
        self._append(audit, [row | {"version": version, "at_ms": self.now_ms, "detail": _checked_doc(entry.detail)}])
        return version

    def advance_stream(self, node_uid: str, stream: str, *, after: int, to: int) -> None:
        """Move a stream's position from `after` to `to`, in the transaction of the effects of those messages.

        Raises `ConflictError` if the position isn't `after`: the messages were applied before, or some are missing.
        """
        position = self.stream_position(node_uid, stream)
        if position != after or to <= after:
            raise ConflictError("stream", f"{node_uid}/{stream}", expected=after, current=position)
        key = (stream_positions.c.node_uid == node_uid, stream_positions.c.stream == stream)
        moved = self._connection.execute(update(stream_positions).where(*key).values(last_seq=to))
        if moved.rowcount == 0:
            row = {"node_uid": node_uid, "stream": stream, "last_seq": to}
            self._connection.execute(insert(stream_positions), [row])

    def forget_streams(self, node_uid: str) -> None:
        """Drop the positions of a node that is gone; its uid is never used again."""
        self._connection.execute(delete(stream_positions).where(stream_positions.c.node_uid == node_uid))

    def next_generation(self) -> int:
        """A number greater than every one given before in this database: the generation of a desired document."""
        self._pending.generation += 1
        return self._pending.generation

    def take_leadership(self, holder: str) -> Leader:
        """Become the one who may commit: the fence grows, and whoever led before is refused from now on."""
        before = self.leader()
        now = Leader(holder, before.fence + 1, before.epoch, self.now_ms)
        self._connection.execute(update(leader).values(holder=holder, fence=now.fence, since_ms=now.since_ms))
        return now

    def check_fence(self, fence: int) -> None:
        """Raises `FencedError` unless `fence` is the current one."""
        current = self._connection.execute(select(leader.c.fence).with_for_update()).scalar_one()
        if current != fence:
            raise FencedError(own=fence, current=current)

    def bump_epoch(self, epoch_min: int = 0) -> Leader:
        """Count a restore from a backup: what nodes run may be newer than what this database remembers.

        The new epoch exceeds `epoch_min`, the highest that a node has told of.
        """
        before = self.leader()
        epoch = max(before.epoch, epoch_min) + 1
        self._connection.execute(update(leader).values(epoch=epoch))
        return Leader(before.holder, before.fence, epoch, before.since_ms)

    def raise_generation(self, floor: int) -> None:
        """Make the next generation exceed `floor`, which a node reported after a restore."""
        self._pending.generation = max(self._pending.generation, floor)

    def remember_reply(self, reply: IdempotentReply) -> None:
        """Keep the answer to a request with an `Idempotency-Key`, in the transaction of its effect."""
        row: dict[str, object] = {
            "principal": reply.principal,
            "key": reply.key,
            "version": self._next_version(),
            "at_ms": self.now_ms,
            "fingerprint": reply.fingerprint,
            "status": reply.status,
            "headers": json.dumps(reply.headers),
            "body": reply.body,
        }
        self._append(idempotency, [row])

    def _current(self, puts: Sequence[Put]) -> dict[tuple[str, str], StoredObject]:
        names: dict[str, list[str]] = {}
        for put in puts:
            names.setdefault(put.kind, []).append(put.name)
        found: dict[tuple[str, str], StoredObject] = {}
        for kind, of_kind in names.items():
            if len(set(of_kind)) != len(of_kind):
                raise ValueError(f"put_many names an object of kind {kind} twice")
            if len(of_kind) == 1:
                row = self._connection.execute(_ONE_TO_CHANGE, {"of_kind": kind, "of_name": of_kind[0]}).first()
                found |= {} if row is None else {(kind, row.name): StoredObject(*row)}
                continue
            for chunk in _chunks(of_kind):
                wanted = select(objects).where(objects.c.kind == kind, objects.c.name.in_(chunk)).with_for_update()
                found |= {(kind, row.name): StoredObject(*row) for row in self._connection.execute(wanted)}
        return found

    def _next_state(self, put: Put, before: StoredObject | None) -> StoredObject:
        _checked_doc(put.doc)
        current = 0 if before is None else before.resource_version
        if put.expected_version is not None and put.expected_version != current:
            raise ConflictError(put.kind, put.name, expected=put.expected_version, current=current or None)
        if before is None:
            _checked_names(put.kind, put.name)
            uid = put.uid or new_uid(self.now_ms)
            return StoredObject(put.kind, put.name, uid, self._next_version(), 1, self.now_ms, self.now_ms, put.doc)
        if before.doc == put.doc and not put.new_generation:
            return before
        generation = before.generation + put.new_generation
        return StoredObject(
            put.kind, put.name, before.uid, self._next_version(), generation, before.created_ms, self.now_ms, put.doc
        )

    def _next_version(self) -> int:
        self._pending.version += 1
        return self._pending.version

    def _append(self, table: Table, rows: list[dict[str, object]]) -> None:
        if rows:
            self._connection.execute(_APPEND[table.name], rows)
            self._pending.appended[table.name] += len(rows)


def new_uid(now_ms: int) -> str:
    """A UUID of version 7 (RFC 9562 §5.7): sorts by time, never used twice."""
    bits = (now_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(UUID(int=bits))


def _columns(row: StoredObject) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__}


def _update_values(row: StoredObject) -> dict[str, object]:
    return {
        "of_kind": row.kind,
        "of_name": row.name,
        "to_resource_version": row.resource_version,
        "to_generation": row.generation,
        "to_updated_ms": row.updated_ms,
        "to_doc": row.doc,
    }


def _chunks(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + NAMES_PER_SELECT] for start in range(0, len(names), NAMES_PER_SELECT))


def _checked_doc(doc: bytes) -> bytes:
    if len(doc) > DOC_BYTES_MAX:
        raise ValueError(f"a document of {len(doc)} bytes is over the cap of {DOC_BYTES_MAX}")
    return doc


def _storable(message: str) -> str:
    """Cut to the cap; lone surrogates, which UTF-8 cannot hold, become question marks."""
    return message[:MESSAGE_CHARS_MAX].encode("utf-8", "replace").decode("utf-8")


def _checked_names(*names: str) -> None:
    if any(not 0 < len(name) <= NAME_CHARS_MAX for name in names):
        raise ValueError(f"kind and name are 1 to {NAME_CHARS_MAX} characters")
