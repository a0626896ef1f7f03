"""Follows commits: each watch has a place in the order of versions and gets everything behind it, once, in order.

A ring in memory holds the latest commits for all watches together, so a watch costs a number, not a queue. A watch
that starts behind the ring, or falls behind it, reads the database instead, and is told to list again (`HistoryError`)
only if the database has forgotten too. All of this runs on the event loop; the store publishes after each commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .errors import HistoryError, StoreError, StoreFailure

RING_ITEMS_MAX = 8_192
RING_BYTES_MAX = 16 * 1024 * 1024


class Versioned(Protocol):
    """Anything with a place in the order of commits."""

    @property
    def version(self) -> int: ...


V = TypeVar("V", bound=Versioned)

Backlog = Callable[[int], Awaitable[tuple[Sequence[V], int]]]
"""Reads what matches behind a version, and up to which version that is complete. Raises `HistoryError`."""


class Feed(Generic[V]):
    """The latest commits in memory, and the watches that wait for more."""

    def __init__(self, head: int, size: Callable[[V], int]) -> None:
        self._ring: deque[V] = deque()
        self._ring_bytes = 0
        self._size = size
        self._floor = head
        self.head = head
        """The newest version published."""
        self._published = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once nothing more will come."""
        return self._closed

    def publish(self, items: Sequence[V], head: int) -> None:
        """Add a commit's items and wake the watches. Called in the order of commits."""
        for item in items:
            self._ring.append(item)
            self._ring_bytes += self._size(item)
        while len(self._ring) > RING_ITEMS_MAX or self._ring_bytes > RING_BYTES_MAX:
            oldest = self._ring.popleft()
            self._ring_bytes -= self._size(oldest)
            self._floor = oldest.version
        self.head = head
        self._wake()

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        self._wake()

    def behind(self, version: int) -> list[V] | None:
        """Items after `version` in order; None if the ring no longer reaches back that far."""
        if version < self._floor:
            return None
        found: list[V] = []
        for item in reversed(self._ring):
            if item.version <= version:
                break
            found.append(item)
        found.reverse()
        return found

    async def changed(self) -> None:
        """Wait for the next publication or the end."""
        await self._published.wait()

    def _wake(self) -> None:
        self._published.set()
        self._published = asyncio.Event()


class Watch(Generic[V]):
    """One follower. Iterate over it, or take batches with a time limit; stop by dropping it."""

    def __init__(self, feed: Feed[V], since: int, wanted: Callable[[V], bool], backlog: Backlog[V]) -> None:
        if since > feed.head:
            raise HistoryError(since=since, oldest=feed.head)
        self._feed = feed
        self._wanted = wanted
        self._backlog = backlog
        self._ready: deque[V] = deque()
        self.version = since
        """Everything wanted up to here has been handed out by `batch`; resume from it."""

    def __aiter__(self) -> Watch[V]:
        """Iterate without end; the end of the store ends it."""
        return self

    async def __anext__(self) -> V:
        """The next item. Raises `HistoryError` if the follower was too slow for the database's memory."""
        while not self._ready:
            if self._feed.closed:
                raise StopAsyncIteration
            self._ready.extend(await self.batch())
        return self._ready.popleft()

    async def ready(self) -> Sequence[V]:
        """What is there already, without waiting for more. Raises `HistoryError` at once if the past is forgotten."""
        return await self._take()

    async def batch(self, wait_s: float | None = None) -> Sequence[V]:
        """All that is there now, in order, or what comes first within `wait_s`; empty when nothing came."""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    if found := await self._take():
                        return found
                    if self._feed.closed:
                        return ()
                    await self._feed.changed()
        except TimeoutError:
            return ()

    async def _take(self) -> Sequence[V]:
        while (recent := self._feed.behind(self.version)) is None:
            try:
                found, upto = await self._backlog(self.version)
            except StoreError as error:
                if error.failure is StoreFailure.CLOSED:
                    return ()
                raise
            self.version = upto
            if found:
                return found
        self.version = max(self.version, self._feed.head)
        return [item for item in recent if self._wanted(item)]
