"""Alembic's entry: runs the revisions over the connection that `migrate.py` hands in, in that one transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from shoal.control_plane.store.schema import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
