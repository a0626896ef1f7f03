"""The tables, as SQLAlchemy Core sees them; `migrations/` makes them, and a test holds the two together.

Portable types only: the same tables serve SQLite and PostgreSQL. Every `version` is a value of
`counters.resource_version`, taken in the transaction that wrote the row.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

counters = Table(
    "counters",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("tombstones_compacted", BigInteger, nullable=False),
    Column("events_compacted", BigInteger, nullable=False),
    Column("events_pruned", BigInteger, nullable=False),
    Column("decisions_pruned", BigInteger, nullable=False),
    Column("audit_pruned", BigInteger, nullable=False),
    Column("tombstones_pruned", BigInteger, nullable=False),
    Column("written_by", String(64), nullable=False),
)
"""One row, id 1. `…_compacted`: rows up to this version are forgotten, so a watch cannot resume before it."""

leader = Table(
    "leader",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(253), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)

objects = Table(
    "objects",
    metadata,
    Column("kind", String(253), primary_key=True),
    Column("name", String(253), primary_key=True),
    Column("uid", String(253), nullable=False, unique=True),
    Column("resource_version", BigInteger, nullable=False, unique=True),
    Column("generation", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("doc", LargeBinary, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(253), nullable=False),
    Column("name", String(253), nullable=False),
    Column("uid", String(253), nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("doc", LargeBinary, nullable=False),
)
"""Deleted objects with their last state, so that a watch which was away learns of the delete."""

events = Table(
    "events",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("reason", String(253), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("kind", String(253), nullable=False),
    Column("name", String(253), nullable=False),
    Column("application", String(253), nullable=False),
    Column("node", String(253), nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", LargeBinary, nullable=False),
    Index("events_by_object", "kind", "name", "version"),
    Index("events_by_application", "application", "version"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("id", String(253), nullable=False, unique=True),
    Column("application", String(253), nullable=False),
    Column("component", String(253), nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Index("decisions_by_component", "application", "component", "version"),
)
"""`record` is zlib-compressed."""

audit = Table(
    "audit",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(253), nullable=False),
    Column("role", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("kind", String(253), nullable=False),
    Column("name", String(253), nullable=False),
    Column("request_id", String(253), nullable=False),
    Column("detail", LargeBinary, nullable=False),
    Index("audit_by_object", "kind", "name", "version"),
    Index("audit_by_actor", "actor", "version"),
)

stream_positions = Table(
    "stream_positions",
    metadata,
    Column("node_uid", String(253), primary_key=True),
    Column("stream", String(253), primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", String(253), primary_key=True),
    Column("key", String(253), primary_key=True),
    Column("version", BigInteger, nullable=False, unique=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
