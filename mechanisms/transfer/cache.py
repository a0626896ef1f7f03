"""Files named by their SHA-256: fetched once, checked before every use, the least recently used removed over a quota.

The inference runner asks for models here. Several askers of one digest share one download; a few downloads run at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...descriptions.errors import ProtocolError, TransportError
from .http import Wanted, check, fetch
from .origin import Origins

FREE_MIN = 64 * 1024 * 1024
"""Bytes of the disk that downloads leave free."""


@dataclass
class _Download:
    task: asyncio.Task[None]
    stop: threading.Event
    askers: int = 0
    done: int = 0
    size: int = 0


@dataclass
class Cache:
    """A folder of files named by content."""

    folder: Path
    origins: Origins
    quota: int
    downloads_max: int = 2
    _running: dict[str, _Download] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Make the folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._slots = asyncio.Semaphore(self.downloads_max)

    def path(self, sha256: str) -> Path:
        """Where the file is, or would be."""
        return self.folder / sha256

    def progress(self, sha256: str) -> tuple[int, int] | None:
        """Bytes that are here and in total (0 unknown) of a running download."""
        found = self._running.get(sha256)
        return (found.done, found.size) if found else None

    async def get(self, wanted: Wanted, keep: Callable[[], set[str]]) -> Path:
        """The path of the whole, checked file; fetched if need be. `keep` names digests that must not be removed."""
        path = self.path(wanted.sha256)
        if path.exists() and await asyncio.to_thread(self._is_intact, path, wanted):
            return path
        await self._share(wanted, keep)
        return path

    def _is_intact(self, path: Path, wanted: Wanted) -> bool:
        """A file that changed on disk is removed and fetched anew."""
        try:
            check(path, wanted)
            os.utime(path)
        except (ProtocolError, TransportError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return False
        return True

    async def _share(self, wanted: Wanted, keep: Callable[[], set[str]]) -> None:
        """Wait for the one download of this digest; when nobody waits any more it is stopped."""
        running = self._running.get(wanted.sha256)
        if running is None:
            stop = threading.Event()
            task = asyncio.create_task(self._download(wanted, stop, keep), name=f"fetch-{wanted.sha256[:12]}")
            task.add_done_callback(_look_at)
            running = self._running[wanted.sha256] = _Download(task, stop, size=wanted.size)
        running.askers += 1
        try:
            await asyncio.shield(running.task)
        finally:
            running.askers -= 1
            if not running.askers and not running.task.done():
                running.stop.set()

    async def _download(self, wanted: Wanted, stop: threading.Event, keep: Callable[[], set[str]]) -> None:
        partial = self.folder / f"{wanted.sha256}.part"
        try:
            async with self._slots:
                running = self._running[wanted.sha256]

                def progress(done: int) -> None:
                    running.done = done

                await asyncio.to_thread(self._make_room, wanted, keep() | {wanted.sha256})
                await asyncio.to_thread(fetch, wanted, partial, self.origins, stop, progress)
                await asyncio.to_thread(self._publish, partial, self.path(wanted.sha256))
        except OSError as error:
            raise TransportError(f"{self.folder}: {error.strerror or error}") from error
        finally:
            self._running.pop(wanted.sha256, None)

    def _make_room(self, wanted: Wanted, keep: set[str]) -> None:
        """Remove what was not used for longest until quota and disk have room; `TransportError` if that won't do."""
        files = sorted(
            (path for path in self.folder.iterdir() if path.name.partition(".")[0] not in keep),
            key=lambda path: path.stat().st_mtime,
        )
        partial = self.folder / f"{wanted.sha256}.part"
        missing = wanted.size - (partial.stat().st_size if partial.exists() else 0)
        while not self._has_room(missing):
            if not files:
                raise TransportError(f"no room for {wanted.size} bytes: the quota is {self.quota}, or the disk is full")
            files.pop(0).unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        used = sum(path.stat().st_size for path in self.folder.iterdir())
        return used + size <= self.quota and shutil.disk_usage(self.folder).free >= size + FREE_MIN

    def _publish(self, partial: Path, path: Path) -> None:
        partial.replace(path)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """Stop downloads; their parts stay for the next time."""
        for running in list(self._running.values()):
            running.stop.set()
            with contextlib.suppress(TransportError, ProtocolError, asyncio.CancelledError):
                await running.task


def _look_at(task: asyncio.Task[None]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()
