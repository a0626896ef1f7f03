"""Migrations: from nothing, from each older revision, never downwards; and they make what `schema.py` says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import shoal
from shoal.control_plane.store.database import Database
from shoal.control_plane.store.dialect import dialect_for
from shoal.control_plane.store.errors import StoreError, StoreFailure
from shoal.control_plane.store.migrate import current_revision, migrate, revisions
from shoal.control_plane.store.records import IdempotentReply
from shoal.control_plane.store.schema import metadata

Open = Callable[..., AbstractContextManager[Database]]

OBJECT = ("Node", "old", "uid-1", 7, 3, 1000, 2000, b'{"old":true}')


def make_at(url: str, revision: str) -> None:
    """A database as the version that ended at `revision` left it, with an object in it."""
    engine = dialect_for(url, size_mib_max=64).writer_engine()
    with engine.connect() as connection, connection.begin():
        migrate(connection, version="0.0.1", target=revision)
    engine.dispose()


@pytest.mark.parametrize("revision", revisions()[:-1] or revisions())
def test_an_older_database_is_brought_up_with_its_rows(url: str, tmp_path: Path, opened: Open, revision: str) -> None:
    make_at(url, revision)
    with closing(sqlite3.connect(tmp_path / "shoal.db")) as raw, raw:
        raw.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)", OBJECT)
        raw.execute("UPDATE counters SET resource_version = 7, generation = 5")
    with opened() as database:
        kept = database.read(lambda tx: tx.get("Node", "old")).result()
        assert kept is not None
        assert (kept.uid, kept.resource_version, kept.doc) == ("uid-1", 7, b'{"old":true}')
        assert database.write(lambda tx: tx.put("Node", "new", b"{}")).result().resource_version == 8
        assert database.write(lambda tx: tx.next_generation()).result() == 6
        reply = IdempotentReply("p", "k", "f" * 64, 200, b"")
        database.write(lambda tx: tx.remember_reply(reply)).result()
        assert database.read(lambda tx: tx.reply("p", "k")).result() == reply


def test_an_empty_file_becomes_a_database_at_the_newest_revision(url: str, tmp_path: Path, opened: Open) -> None:
    (tmp_path / "shoal.db").touch()
    with opened():
        pass
    engine = dialect_for(url, size_mib_max=64).writer_engine()
    with engine.connect() as connection, connection.begin():
        assert current_revision(connection) == revisions()[-1]
        assert connection.exec_driver_sql("SELECT written_by FROM counters").scalar_one() == shoal.__version__
    engine.dispose()


def test_the_migrations_make_the_schema(url: str, opened: Open) -> None:
    with opened():
        pass
    engine = dialect_for(url, size_mib_max=64).writer_engine()
    with engine.connect() as connection, connection.begin():
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_newer_database_is_refused_and_left_alone(url: str, tmp_path: Path, opened: Open) -> None:
    with opened() as database:
        database.write(lambda tx: tx.put("Node", "a", b"{}")).result()
    with closing(sqlite3.connect(tmp_path / "shoal.db")) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.execute("UPDATE counters SET written_by = '7.0.0'")
    before = (tmp_path / "shoal.db").read_bytes()
    with pytest.raises(StoreError) as caught, opened():
        pass
    assert caught.value.failure is StoreFailure.NEWER
    told = str(caught.value)
    assert "9999" in told
    assert "7.0.0" in told
    assert revisions()[-1] in told
    assert "backup" in told
    assert (tmp_path / "shoal.db").read_bytes() == before


def test_a_migration_that_fails_leaves_nothing_behind(url: str, tmp_path: Path, opened: Open) -> None:
    """Another program has made a table in the way of the second revision."""
    make_at(url, "0001")
    with closing(sqlite3.connect(tmp_path / "shoal.db")) as raw, raw:
        raw.execute("CREATE TABLE idempotency (x)")
    with pytest.raises(StoreError) as caught, opened():
        pass
    assert "idempotency" in str(caught.value)
    with closing(sqlite3.connect(tmp_path / "shoal.db")) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]


def test_revisions_are_numbered_without_gaps() -> None:
    assert revisions() == tuple(f"{number:04}" for number in range(1, len(revisions()) + 1))
