"""What is written down of each process that was started, so that a later agent finds it again.

Kept in the runtime folder, which a reboot empties as it ends the processes; mode 0600, because a specification may hold
secrets. Written before the program is executed and again when it has ended.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from ..descriptions.errors import ProtocolError
from ..descriptions.messages.codec import Message, decode, encode
from ..descriptions.messages.desired import ReplicaSpec

logger = logging.getLogger(__name__)

RECORD_MAX = 1024 * 1024


class Record(Message, frozen=True):
    """One process."""

    spec: ReplicaSpec
    digest: str
    pid: int
    start_time: int
    boot_id: str
    ports: dict[str, int] = {}
    ended: bool = False
    exit_code: int | None = None
    """None when it ended while nobody watched."""

    @property
    def key(self) -> tuple[str, str]:
        """Replica and digest."""
        return self.spec.id, self.digest


class Records:
    """One file for each process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, replica: str, digest: str) -> Path:
        return self._folder / f"{replica.replace('/', '_')}-{digest}.json"

    def save(self, record: Record) -> None:
        """Whole or not at all; a crash of the machine may lose it, and ends the process as well."""
        path = self._path(*record.key)
        temporary = path.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_bytes(encode(record))
        temporary.replace(path)

    def remove(self, replica: str, digest: str) -> None:
        """Forget it."""
        self._path(replica, digest).unlink(missing_ok=True)

    def load(self, boot_id: str) -> tuple[Record, ...]:
        """Those of this boot; others and damaged ones are removed."""
        found: list[Record] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = decode(Record, path.read_bytes(), RECORD_MAX)
            except ProtocolError as error:
                logger.warning("record=%s is damaged and dropped: %s", path.name, error)
                path.unlink()
                continue
            if record.boot_id == boot_id:
                found.append(record)
            else:
                path.unlink()
        return tuple(found)


def ended(record: Record, exit_code: int | None) -> Record:
    """The record of a process that is gone."""
    return msgspec.structs.replace(record, ended=True, exit_code=exit_code)
