"""What a machine keeps when its power goes: synced writes survive, others perhaps, and some arrive torn.

A `Disk` is files: `sync` is fsync, and after a crash each unsynced write is kept, lost or, where the medium is bad,
torn, by the seed. A `Journal` is a database with a write-ahead log: transactions survive in order and whole, or not at
all. The control plane's store has rules of its own (`store.py`). The faults are those of TigerBeetle's storage
simulator (`src/testing/storage.zig`), at this level.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass
class Disk:
    """A key-value view of a disk. Reads see the latest write, as the page cache does."""

    torn_rate: float = 0.0
    """Probability that an unsynced write which survives a crash is torn."""
    capacity_bytes: int = 1 << 40
    _durable: dict[str, bytes] = field(default_factory=dict)
    _unsynced: dict[str, bytes | None] = field(default_factory=dict)
    """Later than `_durable`; None is a delete."""
    syncs: int = 0

    def write(self, key: str, value: bytes) -> bool:
        """Write without syncing; False when the disk is full."""
        if self.used_bytes - len(self.read(key) or b"") + len(value) > self.capacity_bytes:
            return False
        self._unsynced[key] = value
        return True

    def delete(self, key: str) -> None:
        """Delete without syncing."""
        self._unsynced[key] = None

    def read(self, key: str) -> bytes | None:
        """The latest value, synced or not."""
        return self._unsynced[key] if key in self._unsynced else self._durable.get(key)

    def sync(self) -> None:
        """Everything written so far survives from now on."""
        self.syncs += 1
        for key, value in self._unsynced.items():
            if value is None:
                self._durable.pop(key, None)
            else:
                self._durable[key] = value
        self._unsynced.clear()

    @property
    def used_bytes(self) -> int:
        """Of all values as a reader sees them."""
        kept = sum(len(value) for key, value in self._durable.items() if key not in self._unsynced)
        return kept + sum(len(value) for value in self._unsynced.values() if value is not None)

    def rot(self, random: Random) -> None:
        """A bit flips in one of the synced values."""
        keys = sorted(key for key, value in self._durable.items() if value)
        if keys:
            key = random.choice(keys)
            self._durable[key] = flipped(self._durable[key], random)

    def crash(self, random: Random) -> None:
        """The power goes: decide what became of each unsynced write."""
        for key, value in sorted(self._unsynced.items()):
            if random.random() < 0.5:
                continue  # it never reached the medium
            if value is None:
                self._durable.pop(key, None)
            elif random.random() < self.torn_rate:
                self._durable[key] = value[: random.randrange(len(value) + 1)]
            else:
                self._durable[key] = value
        self._unsynced.clear()


def flipped(value: bytes, random: Random) -> bytes:
    """The value with one bit changed."""
    place = random.randrange(len(value))
    return value[:place] + bytes([value[place] ^ (1 << random.randrange(8))]) + value[place + 1 :]


@dataclass
class Journal:
    """A small database: SQLite with WAL and synchronous=FULL, one writer."""

    _rows: dict[str, bytes] = field(default_factory=dict)
    """As a reader sees them."""
    _synced: dict[str, bytes] = field(default_factory=dict)
    _log: list[dict[str, bytes | None]] = field(default_factory=list)
    """Transactions that were not synced yet."""
    syncs: int = 0

    def write(self, changes: dict[str, bytes | None]) -> None:
        """One transaction; None deletes. Seen at once, safe after `sync`."""
        self._log.append(changes)
        _apply(self._rows, changes)

    def sync(self) -> None:
        """Everything written so far survives from now on."""
        self.syncs += 1
        for changes in self._log:
            _apply(self._synced, changes)
        self._log.clear()

    def read(self, key: str) -> bytes | None:
        """A row, synced or not."""
        return self._rows.get(key)

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin so, sorted."""
        return sorted(key for key in self._rows if key.startswith(prefix))

    def crash(self, random: Random) -> None:
        """The power goes: some first transactions of those not synced made it."""
        for changes in self._log[: random.randrange(len(self._log) + 1)]:
            _apply(self._synced, changes)
        self._log.clear()
        self._rows = dict(self._synced)


def _apply(rows: dict[str, bytes], changes: dict[str, bytes | None]) -> None:
    for key, value in changes.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
