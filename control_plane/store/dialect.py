"""What differs between databases: how to open one, lock it, check it and read its errors.

The only module with SQLite-only statements. A second database is a second class with the same methods and one more
branch in `dialect_for`; everything else speaks portable SQLAlchemy Core.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from .errors import StoreError, StoreFailure

LOCK_SUFFIX = ".lock"
WAL_BYTES_KEPT = 64 * 1024 * 1024
"""The write-ahead log is cut back to this after a checkpoint."""


class Dialect(Protocol):
    """One kind of database."""

    def writer_engine(self) -> Engine:
        """An engine whose `begin()` takes the write lock at once and whose commit is on disk when it returns."""
        ...

    def reader_engine(self, connections: int) -> Engine:
        """A pool of connections that cannot write and that see one consistent snapshot per transaction."""
        ...

    def lock(self) -> Callable[[], None]:
        """Claim the database for this process; returns what gives it back. Raises `StoreError` (in use)."""
        ...

    def check(self, connection: Connection) -> None:
        """Look for damage before trusting the content. Raises `StoreError` (corrupt)."""
        ...

    def is_open(self, connection: Connection) -> bool:
        """Whether the transaction still stands; some databases end it by themselves on an error."""
        ...

    def failure_of(self, error: DBAPIError) -> StoreError:
        """Say what a driver's error means and what to do about it."""
        ...

    def folder(self) -> Path | None:
        """Where the database's files lie, if it has files here."""
        ...

    def file_bytes(self) -> int:
        """Size on disk, 0 where that cannot be known."""
        ...


def dialect_for(url: str, *, size_mib_max: int) -> Dialect:
    """Choose the dialect that a database URL names (`sqlite:////var/lib/shoal/shoal.db`)."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(StoreFailure.UNSUPPORTED, "not a database URL; expected sqlite:///PATH") from error
    if parsed.get_backend_name() != "sqlite":
        told = parsed.render_as_string(hide_password=True)
        raise StoreError(StoreFailure.UNSUPPORTED, f"{told}: only sqlite is built in; expected sqlite:///PATH")
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError(StoreFailure.UNSUPPORTED, "a store must survive a crash: expected sqlite:///PATH with a file")
    return SqliteDialect(parsed, Path(parsed.database), size_mib_max)


@dataclass(frozen=True)
class SqliteDialect:
    """SQLite in WAL mode with `synchronous=FULL`: every commit waits for the disk (sqlite.org/pragma.html)."""

    url: URL
    path: Path
    size_mib_max: int

    def writer_engine(self) -> Engine:
        """One connection, made and used in the writer thread alone."""
        self._create_file()
        engine = create_engine(self.url, poolclass=NullPool)
        page_bytes = 4096
        pages_max = self.size_mib_max * 1024 * 1024 // page_bytes
        pragmas = (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "PRAGMA foreign_keys=ON",
            "PRAGMA busy_timeout=10000",
            f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}",
            f"PRAGMA max_page_count={pages_max}",
        )
        _on_connect(engine, pragmas, begin="BEGIN IMMEDIATE")
        return engine

    def reader_engine(self, connections: int) -> Engine:
        """`query_only` makes a mistaken write fail; WAL keeps readers and the writer out of each other's way."""
        engine = create_engine(self.url, poolclass=QueuePool, pool_size=connections, max_overflow=0)
        _on_connect(engine, ("PRAGMA query_only=ON", "PRAGMA busy_timeout=10000"), begin="BEGIN")
        return engine

    def lock(self) -> Callable[[], None]:
        """`flock` on a file beside the database; the kernel drops it when the process dies."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(f"{self.path}{LOCK_SUFFIX}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            told = f"{self.path} is in use by process {holder}: one control plane per database"
            raise StoreError(StoreFailure.IN_USE, told) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return lambda: os.close(descriptor)

    def check(self, connection: Connection) -> None:
        """`quick_check` reads every page once; content checksums are the file system's business."""
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if found != "ok":
            raise self._corrupt(str(found))

    def is_open(self, connection: Connection) -> bool:
        """SQLite rolls back by itself on FULL, IOERR and NOMEM (sqlite.org/lang_transaction.html)."""
        driver: object = connection.connection.dbapi_connection
        return isinstance(driver, sqlite3.Connection) and driver.in_transaction

    def failure_of(self, error: DBAPIError) -> StoreError:
        """Map SQLite's primary result codes (sqlite.org/rescode.html)."""
        cause = error.orig
        name = getattr(cause, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_FULL"):
            told = f"no room to write {self.path} (disk full, or sizeMaxMib reached): free space; nothing was lost"
            return StoreError(StoreFailure.FULL, told)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "file is not a database" in str(cause):
            return self._corrupt(str(cause))
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(StoreFailure.BUSY, f"{self.path} is locked by another program; it must be ours alone")
        told = f"{self.path}: {cause} ({name or type(cause).__name__})"
        return StoreError(StoreFailure.IO, told, in_doubt=name.startswith("SQLITE_IOERR"))

    def folder(self) -> Path:
        """Beside the database."""
        return self.path.parent

    def file_bytes(self) -> int:
        """Database and write-ahead log together."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def _corrupt(self, detail: str) -> StoreError:
        told = (
            f"{self.path} is damaged ({detail}). Stop, keep a copy of it with its -wal file, and restore a backup; "
            "nodes go on with their last known good state meanwhile"
        )
        return StoreError(StoreFailure.CORRUPT, told)

    def _create_file(self) -> None:
        # SQLite would make it with the umask's rights; WAL and shared memory copy those of the database.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _on_connect(engine: Engine, pragmas: tuple[str, ...], *, begin: str) -> None:
    """Take transactions out of the driver's hands: it would begin too late and commit before DDL."""

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
