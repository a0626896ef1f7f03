"""The store as the control plane uses it: asynchronous writes, reads and watches over one `Database`.

`await store.write(fn)` returns after the rows are on disk; by then every watch has been told. What `fn` may do is in
`transaction.py`, what can be read in `reading.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from .blobs import BlobStore
from .database import DEFAULT_OPTIONS, Database, StoreOptions
from .errors import HistoryError, StoreError, StoreFailure
from .feed import Feed, Watch
from .reading import ReadTransaction
from .records import Change, EventEntry, EventQuery, Leader, Logged, Page, StoredObject, StoreStatus
from .transaction import Transaction
from .writer import Committed

T = TypeVar("T")

BACKLOG_ROWS = 500
"""Changes read at once for a watch that was away."""


class Store:
    """An open store on the running event loop. Make it with `await Store.open(url)`, end it with `async with`."""

    def __init__(self, database: Database, blobs: BlobStore, head: int) -> None:
        """For `open` alone."""
        self._database = database
        self.blobs = blobs
        self._changes: Feed[Change] = Feed(head, _change_bytes)
        self._events: Feed[Logged[EventEntry]] = Feed(head, _event_bytes)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        blobs: Path | None = None,
        options: StoreOptions = DEFAULT_OPTIONS,
        now_s: Callable[[], float] = time.time,
    ) -> Store:
        """Open, check and migrate a database. Model contents go to `blobs`, by default a folder beside the database.

        Raises `StoreError`; its message says what to do.
        """
        loop = asyncio.get_running_loop()
        store: Store | None = None

        def committed(commit: Committed) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(publish, commit)

        def publish(commit: Committed) -> None:
            assert store is not None, "nobody can write before `open` has returned"
            store._publish(commit)

        database = await asyncio.to_thread(Database, url, options=options, now_s=now_s, committed=committed)
        try:
            contents = await asyncio.to_thread(BlobStore, blobs or _beside(database))
            head = await asyncio.wrap_future(database.read(lambda tx: tx.version))
        except BaseException:
            await asyncio.to_thread(database.close)
            raise
        store = cls(database, contents, head)
        return store

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish queued writes, end the watches, let go of the file."""
        await asyncio.to_thread(self._database.close)
        self._changes.close()
        self._events.close()

    async def write(self, fn: Callable[[Transaction], T]) -> T:
        """Run `fn(tx)` in the writer thread and return its result once it is on disk.

        What `fn` raises is raised here and nothing of it is kept. `fn` must be quick, must not wait, and may run while
        the caller is already cancelled: a request whose answer got lost may still have happened.
        """
        return await asyncio.wrap_future(self._database.write(fn))

    async def read(self, fn: Callable[[ReadTransaction], T]) -> T:
        """Run `fn(tx)` over one consistent snapshot in a reader thread."""
        return await asyncio.wrap_future(self._database.read(fn))

    async def get(self, kind: str, name: str) -> StoredObject | None:
        """One object, or None."""
        return await self.read(lambda tx: tx.get(kind, name))

    async def all(self, kind: str) -> tuple[StoredObject, ...]:
        """Every object of a kind in order of name."""
        return await self.read(lambda tx: tx.all(kind))

    async def page(self, kind: str, *, after: str = "", limit: int = 500) -> Page:
        """Some objects of a kind, with the version to watch from."""
        return await self.read(lambda tx: tx.page(kind, after=after, limit=limit))

    async def lead(self, holder: str) -> Leader:
        """Take the leadership; afterwards each commit of this process checks that it still leads."""
        return await asyncio.to_thread(self._database.lead, holder)

    @property
    def head(self) -> int:
        """The newest version that watches have been told of."""
        return self._changes.head

    def watch(self, since: int, kinds: Collection[str] = ()) -> Watch[Change]:
        """Follow changes of objects after version `since`, of the kinds named or of all.

        A watch that keeps up gets every change; one that was away gets each object's latest state and every delete.
        Raises `HistoryError`, now or while iterating, when deletes since then are forgotten.
        """
        wanted = frozenset(kinds)

        backlog = _Backlog(self, since, lambda tx: tx.deletes_compacted)

        async def read(version: int) -> tuple[Sequence[Change], int]:
            return await backlog.read(version, lambda tx: tx.changes_since(version, wanted, limit=BACKLOG_ROWS))

        return Watch(self._changes, since, lambda change: not wanted or change.object.kind in wanted, read)

    def watch_events(self, since: int, wanted: Callable[[Logged[EventEntry]], bool]) -> Watch[Logged[EventEntry]]:
        """Follow events after version `since` for which `wanted` is true; pruned ones raise `HistoryError`."""

        backlog = _Backlog(self, since, lambda tx: tx.events_compacted)

        async def read(version: int) -> tuple[Sequence[Logged[EventEntry]], int]:
            found, upto = await backlog.read(version, lambda tx: _events_since(tx, version))
            return [event for event in found if wanted(event)], upto

        return Watch(self._events, since, wanted, read)

    @property
    def failed(self) -> StoreError | None:
        """Set once a write failed in a way that only a restart of the process can answer."""
        return self._database.failed

    async def status(self) -> StoreStatus:
        """Figures for people and metrics."""
        return await asyncio.to_thread(self._database.status)

    def _publish(self, commit: Committed) -> None:
        self._changes.publish(commit.changes, commit.head)
        self._events.publish(commit.events, commit.head)


class _Backlog:
    """Reads a watch's past from the database, and says so when it is not all there."""

    def __init__(self, store: Store, since: int, compacted: Callable[[ReadTransaction], int]) -> None:
        self._store = store
        self._compacted = compacted
        self._missed: int | None = None if since == 0 else 0
        """Forgotten before the watch began: a watch from 0 knows nothing yet, so no old delete concerns it."""

    async def read(self, version: int, fn: Callable[[ReadTransaction], T]) -> T:
        return await self._store.read(lambda tx: self._checked(tx, version, fn))

    def _checked(self, tx: ReadTransaction, version: int, fn: Callable[[ReadTransaction], T]) -> T:
        compacted = self._compacted(tx)
        if self._missed is None:
            self._missed = compacted
        if version < compacted and compacted != self._missed:
            raise HistoryError(since=version, oldest=compacted)
        return fn(tx)


def _events_since(tx: ReadTransaction, since: int) -> tuple[Sequence[Logged[EventEntry]], int]:
    found = tx.events(EventQuery(after_version=since, limit=BACKLOG_ROWS, newest_first=False))
    return found, found[-1].version if len(found) == BACKLOG_ROWS else tx.version


def _beside(database: Database) -> Path:
    if database.folder is None:
        raise StoreError(StoreFailure.UNSUPPORTED, "this database has no folder here: name one for model contents")
    return database.folder / "blobs"


def _change_bytes(change: Change) -> int:
    return len(change.object.doc) + 256


def _event_bytes(event: Logged[EventEntry]) -> int:
    return len(event.entry.message) + len(event.entry.detail) + 256
