"""Everything that blocks on the node's disk, in one thread of its own, so that no heartbeat waits for an fsync.

`run.py` makes one before anything else. A full disk costs the reserve file first, so that marks and errors still fit;
one that takes nothing at all leaves the agent working from memory, with the condition `DiskPressure`. One that fails to
sync ends the agent: what is on it can no longer be trusted without looking.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..descriptions.errors import TransportError
from .database import Database
from .files import DiskBrokenError, DiskFullError, read_capped, write_whole
from .slots import Slots

logger = logging.getLogger(__name__)

T = TypeVar("T")

DATABASE_FILE = "state.db"
RESERVE_FILE = "reserve"
INCARNATION_FILE = "incarnation"
FREE_MIN = 64 * 1024 * 1024
FREE_SHARE_MIN = 0.02


class Disk:
    """The state folder of one agent."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        """Open the database; blocking."""
        self.folder = folder
        self._reserve_bytes = reserve_bytes
        self._thread = ThreadPoolExecutor(1, "disk")
        self.problem = ""
        """Why something could not be written last; empty when all is well."""
        self.slots: Slots | None = None
        self.database = self._open()
        self.incarnation = self._count_start()
        if not self.problem:
            self._keep_reserve()

    def _open(self) -> Database:
        try:
            return Database(self.folder / DATABASE_FILE)
        except (TransportError, OSError) as error:
            logger.warning("state=%s working from memory: %s", self.folder, error)
            self.problem = str(error)
            return Database.in_memory()

    def _count_start(self) -> int:
        """Starts are counted twice, so that a lost database does not make this start look like an earlier one."""
        path = self.folder / INCARNATION_FILE
        try:
            told = (read_capped(path, 32) or b"").decode("ascii", "replace").strip()
            incarnation = self.database.next_incarnation(int(told) + 1 if told.isdigit() else 1)
            write_whole(path, str(incarnation).encode())
        except TransportError as error:
            self.problem = str(error)
            return self.database.next_incarnation(1)
        return incarnation

    async def run(self, call: Callable[[], T]) -> T:
        """Run it in the disk's thread. Raises `TransportError` when it could not be done, `DiskBrokenError` to end."""
        loop = asyncio.get_running_loop()
        try:
            try:
                return await loop.run_in_executor(self._thread, call)
            except DiskFullError:
                if not self._give_reserve_up():
                    raise
                return await loop.run_in_executor(self._thread, call)
        except DiskBrokenError:
            raise
        except TransportError as error:
            self.problem = str(error)
            raise

    async def try_run(self, call: Callable[[], object]) -> bool:
        """As `run`, for what the agent goes on without; false when it could not be done."""
        try:
            await self.run(call)
        except DiskBrokenError:
            raise
        except TransportError as error:
            logger.warning("state=%s not written: %s", self.folder, error)
            return False
        self.problem = "" if str(self.database.path) != ":memory:" else self.problem
        return True

    def pressure(self) -> str:
        """Why the node is short of disk; empty when it is not."""
        if self.problem:
            return self.problem
        try:
            usage = shutil.disk_usage(self.folder)
        except OSError as error:
            return str(error)
        if usage.free < max(FREE_MIN, int(usage.total * FREE_SHARE_MIN)):
            return f"{usage.free} of {usage.total} bytes are free"
        if self._reserve_bytes and not (self.folder / RESERVE_FILE).exists():
            return "the reserve was given up"
        return ""

    def keep_reserve(self) -> None:
        """Make the reserve again when there is room for it and as much again."""
        if self._reserve_bytes and not (self.folder / RESERVE_FILE).exists():
            self._keep_reserve()

    def _keep_reserve(self) -> None:
        path = self.folder / RESERVE_FILE
        try:
            has_room = shutil.disk_usage(self.folder).free > max(FREE_MIN, 2 * self._reserve_bytes)
            if self._reserve_bytes and has_room and not path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    _allocate(descriptor, self._reserve_bytes)
                finally:
                    os.close(descriptor)
        except OSError as error:
            logger.warning("reserve=%s not made: %s", path, error)

    def _give_reserve_up(self) -> bool:
        path = self.folder / RESERVE_FILE
        if not path.exists():
            return False
        logger.warning("state=%s is full: the reserve is given up", self.folder)
        path.unlink()
        return True

    def close(self) -> None:
        """Finish what was asked, then close."""
        self._thread.shutdown()
        self.database.close()


def _allocate(descriptor: int, size: int) -> None:
    """Blocks that are really there; a sparse file would reserve nothing."""
    allocate = getattr(os, "posix_fallocate", None)  # not on macOS
    if allocate is not None:
        allocate(descriptor, 0, size)
        return
    os.write(descriptor, b"\0" * size)
