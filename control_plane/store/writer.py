"""The one writer thread: takes queued jobs, runs several in one transaction, and answers when they are on disk.

Group commit: while one commit waits for the disk, more jobs queue up, and they share the next fsync. Each job has a
savepoint, so one that fails takes back only its own rows. Nobody is answered before the commit has returned, errors
included, because an error may rest on rows of the same group.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, bindparam, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from .dialect import Dialect
from .errors import FencedError, StoreError, StoreFailure
from .records import Change, EventEntry, Logged, LogSize
from .retention import Pruner
from .schema import counters, leader
from .transaction import Pending, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

JOBS_QUEUED_MAX = 10_000
JOBS_PER_GROUP_MAX = 128

_COUNTERS = select(counters).with_for_update()
_FENCE = select(leader.c.fence)
_COUNT = update(counters).values(resource_version=bindparam("version"), generation=bindparam("newest"))


@dataclass(frozen=True)
class Committed:
    """What a commit changed, for the watches; `head` is the newest version now."""

    changes: tuple[Change, ...]
    events: tuple[Logged[EventEntry], ...]
    head: int


@dataclass(frozen=True)
class Job(Generic[T]):
    """A function to run in a transaction, and where its answer goes."""

    fn: Callable[[Transaction], T]
    future: Future[T] = field(default_factory=Future)


class Writer:
    """Owns the thread, its connection and the queue. Made by `Database`."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        pruner: Pruner,
        now_s: Callable[[], float],
        committed: Callable[[Committed], None],
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._now_s = now_s
        self._committed = committed
        self._pruner = pruner
        self._counts_known = True
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._failed: StoreError | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self.fence: int | None = None
        """Once set, every commit checks it against the leader row; see `Database.lead`."""
        self.commits = 0
        self.writes = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return self._queue.qsize()

    @property
    def failed(self) -> StoreError | None:
        """Set once the disk failed in a way that must not be retried: the process has to restart."""
        return self._failed

    def sizes(self) -> dict[str, LogSize]:
        """Rows of the capped tables."""
        return self._pruner.sizes()

    def submit(self, fn: Callable[[Transaction], T]) -> Future[T]:
        """Queue a job. Its future raises what `fn` raised, or `StoreError`. Cancelling works until it starts."""
        job = Job(fn)
        with self._lock:
            if self._closed:
                raise StoreError(StoreFailure.CLOSED, "the store is closed")
            if self._queue.qsize() >= JOBS_QUEUED_MAX:
                raise StoreError(StoreFailure.BUSY, f"{JOBS_QUEUED_MAX} writes wait already: try again later")
            self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._engine.connect() as connection:
                while (jobs := self._next_group()) is not None:
                    self._commit_group(connection, jobs)
        finally:
            self._refuse_queued()

    def _refuse_queued(self) -> None:
        """Nobody may wait for a thread that has ended, whatever ended it."""
        with self._lock:
            self._closed = True
        while not self._queue.empty():
            job = self._queue.get()
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(StoreError(StoreFailure.CLOSED, "the store is closed"))

    def _next_group(self) -> list[Job[Any]] | None:
        first = self._queue.get()
        if first is None:
            return None
        jobs = [first]
        while len(jobs) < JOBS_PER_GROUP_MAX:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._queue.put(None)
                break
            jobs.append(job)
        return [job for job in jobs if job.future.set_running_or_notify_cancel()]

    def _commit_group(self, connection: Connection, jobs: list[Job[Any]]) -> None:
        try:
            if self._failed is not None:
                raise self._failed
            with connection.begin():
                pending = self._open(connection)
                answers = [self._run_job(connection, pending, job) for job in jobs]
                self._close_transaction(connection, pending)
        except (DBAPIError, StoreError, FencedError) as error:
            self._refuse(jobs, self._group_error(error))
            return
        except BaseException as error:
            # A mistake of ours: the thread ends with it, and nobody is left waiting.
            self._refuse(jobs, error)
            raise
        self.commits += 1
        self.writes += len(jobs)
        self._committed(Committed(tuple(pending.changes), tuple(pending.events), pending.version))
        for answer in answers:
            answer()

    def _open(self, connection: Connection) -> Pending:
        row = connection.execute(_COUNTERS).one()
        if self.fence is not None:
            current = connection.execute(_FENCE).scalar_one()
            if current != self.fence:
                raise FencedError(own=self.fence, current=current)
        if not self._counts_known:
            self._pruner.load(connection)
            self._counts_known = True
        return Pending(row.resource_version, row.generation, int(self._now_s() * 1000))

    def _run_job(self, connection: Connection, pending: Pending, job: Job[Any]) -> Callable[[], None]:
        """Run one job in a savepoint and return how to answer it after the commit.

        The savepoint is plain SQL: SQLAlchemy's own compiles anew each time, which costs more than the job.
        """
        mark = pending.mark()
        connection.exec_driver_sql("SAVEPOINT job")
        try:
            result = job.fn(Transaction(connection, pending))
        except IntegrityError as error:
            failure: Exception = StoreError(StoreFailure.DUPLICATE, f"a uid, id or key is taken: {error.orig}")
        except DBAPIError:
            raise  # The database itself failed: the whole group is lost.
        except Exception as error:  # noqa: BLE001 - the caller's function; its error belongs to the caller
            failure = error
        else:
            connection.exec_driver_sql("RELEASE SAVEPOINT job")
            return lambda: job.future.set_result(result)
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
        connection.exec_driver_sql("RELEASE SAVEPOINT job")
        pending.reset(mark)
        return lambda: job.future.set_exception(failure)

    def _close_transaction(self, connection: Connection, pending: Pending) -> None:
        self._pruner.prune(connection, pending.appended, pending.now_ms)
        connection.execute(_COUNT, {"version": pending.version, "newest": pending.generation})
        if not self._dialect.is_open(connection):
            # The database gave up on the transaction (SQLite does on a full disk) and a job hid the error.
            raise StoreError(StoreFailure.IO, "the transaction ended by itself; nothing was committed")

    def _group_error(self, error: Exception) -> Exception:
        self._counts_known = False
        told = self._dialect.failure_of(error) if isinstance(error, DBAPIError) else error
        if isinstance(told, StoreError) and told.in_doubt and self._failed is None:
            # After a failed fsync the page cache may lie; only a new process reads what is really there.
            log.error("store: no more writes after a disk error: %s", told)
            self._failed = told
        return told

    def _refuse(self, jobs: list[Job[Any]], error: BaseException) -> None:
        log.warning("store: %d writes refused: %s", len(jobs), error)
        for job in jobs:
            job.future.set_exception(error)
