"""The synchronous half of the store: one open database with its lock, its writer thread and its readers.

Used by `store.py` (which adds the event loop) and by tools that have no loop. Opening checks and migrates; from then on
the file is ours alone until `close`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import DBAPIError

from ... import __version__
from .dialect import Dialect, dialect_for
from .errors import StoreError, StoreFailure
from .migrate import migrate
from .reading import ReadTransaction
from .records import Leader, RetentionLimits, StoreStatus
from .retention import Pruner
from .transaction import Transaction
from .writer import Committed, Writer

T = TypeVar("T")


@dataclass(frozen=True)
class StoreOptions:
    """How a database is kept."""

    retention: RetentionLimits = field(default_factory=RetentionLimits)
    size_mib_max: int = 16_384
    """The database refuses to grow beyond this, as if the disk were full."""
    readers: int = 4
    """Threads and connections for reads."""
    check_on_open: bool = True
    """Read every page once at start, to find damage before it is trusted. Off for very large databases."""


DEFAULT_OPTIONS = StoreOptions()


class Database:
    """An open database. `write` and `read` may be called from any thread."""

    def __init__(
        self,
        url: str,
        *,
        options: StoreOptions = DEFAULT_OPTIONS,
        now_s: Callable[[], float] = time.time,
        committed: Callable[[Committed], None] = lambda _: None,
    ) -> None:
        """Open, check and migrate. Raises `StoreError` (in use, corrupt, newer, full, unsupported)."""
        self._dialect: Dialect = dialect_for(url, size_mib_max=options.size_mib_max)
        self._unlock = self._dialect.lock()
        try:
            self._writing: Engine = self._dialect.writer_engine()
            pruner = Pruner(options.retention)
            self._prepare(pruner, options.check_on_open)
            self._reading: Engine = self._dialect.reader_engine(options.readers)
        except BaseException:
            self._unlock()
            raise
        self._writer = Writer(self._writing, self._dialect, pruner, now_s, committed)
        self._readers = ThreadPoolExecutor(options.readers, thread_name_prefix="store-reader")
        self._is_open = True
        self._writer.start()

    def write(self, fn: Callable[[Transaction], T]) -> Future[T]:
        """Run `fn` in the writer thread; the future is done when its rows are on disk. `fn` must be quick and pure."""
        return self._writer.submit(fn)

    def read(self, fn: Callable[[ReadTransaction], T]) -> Future[T]:
        """Run `fn` over one snapshot in a reader thread."""
        if not self._is_open:
            raise StoreError(StoreFailure.CLOSED, "the store is closed")
        return self._readers.submit(self._read, fn)

    def lead(self, holder: str) -> Leader:
        """Take the leadership; from now on this process commits only while nobody else has taken it."""
        taken = self.write(lambda tx: tx.take_leadership(holder)).result()
        self._writer.fence = taken.fence
        return taken

    @property
    def folder(self) -> Path | None:
        """The folder of the database's files, if it has files on this machine."""
        return self._dialect.folder()

    @property
    def failed(self) -> StoreError | None:
        """Set once a write failed in a way that only a restart of the process can answer."""
        return self._writer.failed

    def status(self) -> StoreStatus:
        """Figures for people and metrics."""
        head, leader = self.read(lambda tx: (tx.version, tx.leader())).result()
        return StoreStatus(
            head_version=head,
            leader=leader,
            sizes=self._writer.sizes(),
            file_bytes=self._dialect.file_bytes(),
            writes_queued=self._writer.queued,
            commits=self._writer.commits,
            writes=self._writer.writes,
        )

    def close(self) -> None:
        """Finish queued writes, then let go of the file."""
        if not self._is_open:
            return
        self._is_open = False
        self._writer.close()
        self._readers.shutdown()
        self._reading.dispose()
        self._writing.dispose()
        self._unlock()

    def _prepare(self, pruner: Pruner, check: bool) -> None:
        try:
            with self._writing.connect() as connection, connection.begin():
                if check and inspect(connection).get_table_names():
                    self._dialect.check(connection)
                migrate(connection, version=__version__)
                pruner.load(connection)
        except DBAPIError as error:
            raise self._dialect.failure_of(error) from error

    def _read(self, fn: Callable[[ReadTransaction], T]) -> T:
        try:
            with self._reading.connect() as connection, connection.begin():
                return fn(ReadTransaction(connection))
        except DBAPIError as error:
            raise self._dialect.failure_of(error) from error
