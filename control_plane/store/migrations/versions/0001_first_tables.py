"""First tables: objects with their counter and tombstones, the leader row and the append-only tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the two rows that exist exactly once."""
    _create_state()
    _create_objects()
    _create_logs()


def _create_state() -> None:
    counters = op.create_table(
        "counters",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("tombstones_compacted", sa.BigInteger, nullable=False),
        sa.Column("events_compacted", sa.BigInteger, nullable=False),
        sa.Column("events_pruned", sa.BigInteger, nullable=False),
        sa.Column("decisions_pruned", sa.BigInteger, nullable=False),
        sa.Column("audit_pruned", sa.BigInteger, nullable=False),
        sa.Column("tombstones_pruned", sa.BigInteger, nullable=False),
        sa.Column("written_by", sa.String(64), nullable=False),
    )
    leader = op.create_table(
        "leader",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.String(253), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
    )
    zeroes = dict.fromkeys((column.name for column in counters.columns if column.name not in ("id", "written_by")), 0)
    op.bulk_insert(counters, [{"id": 1, "written_by": "", **zeroes}])
    op.bulk_insert(leader, [{"id": 1, "holder": "", "fence": 0, "epoch": 1, "since_ms": 0}])
    op.create_table(
        "stream_positions",
        sa.Column("node_uid", sa.String(253), primary_key=True),
        sa.Column("stream", sa.String(253), primary_key=True),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
    )


def _create_objects() -> None:
    op.create_table(
        "objects",
        sa.Column("kind", sa.String(253), primary_key=True),
        sa.Column("name", sa.String(253), primary_key=True),
        sa.Column("uid", sa.String(253), nullable=False, unique=True),
        sa.Column("resource_version", sa.BigInteger, nullable=False, unique=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "tombstones",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(253), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("uid", sa.String(253), nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.LargeBinary, nullable=False),
    )


def _create_logs() -> None:
    op.create_table(
        "events",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(253), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(253), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("application", sa.String(253), nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("detail", sa.LargeBinary, nullable=False),
        sa.Index("events_by_object", "kind", "name", "version"),
        sa.Index("events_by_application", "application", "version"),
    )
    op.create_table(
        "decisions",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("id", sa.String(253), nullable=False, unique=True),
        sa.Column("application", sa.String(253), nullable=False),
        sa.Column("component", sa.String(253), nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Index("decisions_by_component", "application", "component", "version"),
    )
    op.create_table(
        "audit",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(253), nullable=False),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(253), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("request_id", sa.String(253), nullable=False),
        sa.Column("detail", sa.LargeBinary, nullable=False),
        sa.Index("audit_by_object", "kind", "name", "version"),
        sa.Index("audit_by_actor", "actor", "version"),
    )
