"""Brings a database to the tables of this version, or refuses one that a newer version wrote.

Called once at start by `store.py`, under the process lock. One transaction: either all pending revisions are in, or
none. Revisions are package data (`migrations/versions/`).
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, update

from .errors import StoreError, StoreFailure
from .schema import counters

SCRIPTS = Path(__file__).parent / "migrations"


def revisions() -> tuple[str, ...]:
    """All revisions that this version knows, oldest first."""
    scripts = ScriptDirectory(str(SCRIPTS))
    return tuple(script.revision for script in reversed(list(scripts.walk_revisions())))


def current_revision(connection: Connection) -> str | None:
    """The revision that the database is at; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def migrate(connection: Connection, *, version: str, target: str = "head") -> None:
    """Run what is pending, inside the caller's transaction.

    `version` is this program's, noted in the database for the error message of an older one. Raises `StoreError`
    (newer) if the database is at a revision that this version does not know.
    """
    known = revisions()
    current = current_revision(connection)
    if current is not None and current not in known:
        raise _newer(connection, current, known[-1])
    if current != known[-1]:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, target)
    connection.execute(update(counters).values(written_by=version))


def _newer(connection: Connection, current: str, newest_known: str) -> StoreError:
    writer = connection.exec_driver_sql("SELECT written_by FROM counters").scalar_one_or_none() or "a newer Shoal"
    told = (
        f"the database is at revision {current}, written by version {writer}; this version knows revisions up to "
        f"{newest_known}. Install that version again, or restore a backup made before the upgrade"
    )
    return StoreError(StoreFailure.NEWER, told)
