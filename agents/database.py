"""The agent's one database: marks, events that wait, results of commands, and the journal that undoes settings.

The only module that imports sqlite3. Every commit is on disk when a call returns (WAL, synchronous=FULL), so callers
batch: an idle agent commits nothing. Calls block; `run.py` makes them from the one disk thread. A database that is
damaged is put aside and a new one made, with new stream names, so that the control plane sees a gap instead of a guess.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec

from ..descriptions.errors import TransportError
from ..descriptions.mechanism import MechanismCommand
from ..descriptions.messages.codec import decode, encode
from .files import DiskBrokenError, DiskFullError
from .mark import Mark
from .outbox_events import EventUrgency, Urgency
from .reconcile_events import SettingKey
from .stream import StreamStart

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
RESULTS_MAX = 10_000
QUARANTINE_MAX = 2
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (urgency INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (urgency, seq)) WITHOUT ROWID;
CREATE TABLE results (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, result BLOB NOT NULL);
CREATE TABLE journal (mechanism TEXT NOT NULL, target TEXT NOT NULL, verb TEXT NOT NULL,
    inverse BLOB, state TEXT NOT NULL, PRIMARY KEY (mechanism, target, verb)) WITHOUT ROWID;
"""

JournalState = Literal["acting", "done"]
"""`acting` before a change, `done` after: an `acting` entry found at the start was cut off in the middle."""


@dataclass(frozen=True)
class StoredEvent:
    """One event as it waits."""

    urgency: EventUrgency
    seq: int
    body: bytes


@dataclass(frozen=True)
class JournalEntry:
    """A setting in force and the command that restores what was before it; None where nothing needs restoring."""

    key: SettingKey
    inverse: MechanismCommand | None
    state: JournalState


class Database:
    """`state.db` of one agent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.quarantined = ""
        """Why the database that was found here was put aside; empty when it was not."""
        self.commits = 0
        """Transactions since the start; each is at least one fsync."""
        self._connection = self._open()
        with self._transaction() as connection:
            for urgency in (Urgency.P0, Urgency.P1):
                connection.execute(
                    "INSERT OR IGNORE INTO meta VALUES (?, ?)", (f"stream-{urgency}", secrets.token_hex(8))
                )

    @classmethod
    def in_memory(cls) -> Database:
        """For a node whose disk takes nothing: everything works, and is gone with the agent."""
        return cls(Path(":memory:"))

    def close(self) -> None:
        """Checkpoint and close."""
        self._connection.close()

    # --- opening ------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError as error:
            raise TransportError(f"{self.path}: {error}") from error  # the disk, not the file
        except sqlite3.DatabaseError as error:
            self.quarantined = str(error)
        self._put_aside()
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            connection.execute("PRAGMA cache_size = -512")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 1048576")
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(f"quick_check: {answer}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise TransportError(f"{self.path} was written by a newer agent (schema {version})")
            if version == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            if self.path.exists():
                self.path.chmod(0o600)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self) -> None:
        logger.error("database=%s is damaged and put aside: %s", self.path, self.quarantined)
        names = [self.path.name, *(f"{self.path.name}.damaged{number}" for number in range(1, QUARANTINE_MAX + 1))]
        for newer, older in reversed([*pairwise(names)]):
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(older + suffix).unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(newer + suffix).replace(self.path.with_name(older + suffix))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
                self.commits += 1
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _disk_error(self.path, error) from error

    # --- meta ---------------------------------------------------------------------------------------------------

    def _meta(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, **values: str | int) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "REPLACE INTO meta VALUES (?, ?)", [(key, str(value)) for key, value in values.items()]
            )

    def mark(self) -> Mark:
        """What may never be gone below."""
        found = self._meta("mark")
        return msgspec.json.decode(found, type=Mark) if found else Mark()

    def save_mark(self, mark: Mark) -> None:
        """Durable when this returns."""
        self._set_meta(mark=msgspec.json.encode(mark).decode())

    def next_incarnation(self, at_least: int) -> int:
        """Count this start of the agent, durably."""
        incarnation = max(int(self._meta("incarnation") or 0) + 1, at_least)
        self._set_meta(incarnation=incarnation)
        return incarnation

    def good_digest(self) -> str:
        """Digest of the last known good document."""
        return self._meta("good") or ""

    def save_good_digest(self, digest: str) -> None:
        """Durable when this returns; nothing is written when it is known."""
        if digest != self.good_digest():
            self._set_meta(good=digest)

    # --- events -------------------------------------------------------------------------------------------------

    def stream_start(self, urgency: EventUrgency) -> StreamStart:
        """Where the stream stands after earlier runs."""
        rows = self._connection.execute(
            "SELECT seq, length(body) FROM events WHERE urgency = ? ORDER BY seq", (urgency,)
        ).fetchall()
        first = int(rows[0][0]) if rows else int(self._meta(f"next-{urgency}") or 1)
        return StreamStart(self._meta(f"stream-{urgency}") or "", first, tuple(int(size) for _, size in rows))

    def write_events(self, stored: Iterable[StoredEvent], deleted: dict[EventUrgency, int]) -> None:
        """Add events and delete those up to a seq, in one transaction; durable when this returns."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?)", [(one.urgency, one.seq, one.body) for one in stored]
            )
            for urgency, upto in deleted.items():
                connection.execute("DELETE FROM events WHERE urgency = ? AND seq <= ?", (urgency, upto))
                following = max(upto + 1, int(self._meta(f"next-{urgency}") or 1))
                connection.execute("REPLACE INTO meta VALUES (?, ?)", (f"next-{urgency}", str(following)))

    def read_events(self, urgency: EventUrgency, first: int, last: int) -> list[bytes]:
        """Bodies of events, both ends included."""
        rows = self._connection.execute(
            "SELECT body FROM events WHERE urgency = ? AND seq BETWEEN ? AND ? ORDER BY seq", (urgency, first, last)
        )
        return [bytes(body) for (body,) in rows]

    # --- results of commands ------------------------------------------------------------------------------------

    def result(self, command_id: str) -> bytes | None:
        """What was answered to this command before."""
        row = self._connection.execute("SELECT result FROM results WHERE id = ?", (command_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def save_result(self, command_id: str, result: bytes) -> None:
        """Keep the latest 10,000 answers; not by age, because a node's clock may jump by years."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO results (id, result) VALUES (?, ?)", (command_id, result))
            connection.execute(
                "DELETE FROM results WHERE number <= (SELECT max(number) FROM results) - ?", (RESULTS_MAX,)
            )

    # --- undo journal -------------------------------------------------------------------------------------------

    def journal(self) -> tuple[JournalEntry, ...]:
        """Every setting that is in force, or may be."""
        rows = self._connection.execute("SELECT mechanism, target, verb, inverse, state FROM journal ORDER BY 1, 2, 3")
        return tuple(
            JournalEntry(SettingKey(mechanism, target, verb), inverse and decode(MechanismCommand, inverse), state)
            for mechanism, target, verb, inverse, state in rows
        )

    def journal_acting(self, key: SettingKey, inverse: MechanismCommand | None) -> None:
        """Before a change. The inverse of the first change stays: it leads back to what was before any of them."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?, ?, 'acting') ON CONFLICT DO UPDATE SET state = 'acting'",
                (key.mechanism, key.target, key.verb, inverse and encode(inverse)),
            )

    def journal_done(self, key: SettingKey) -> None:
        """After a change."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE journal SET state = 'done' WHERE (mechanism, target, verb) = (?, ?, ?)", _row(key)
            )

    def journal_strike(self, key: SettingKey) -> None:
        """After the inverse was applied."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM journal WHERE (mechanism, target, verb) = (?, ?, ?)", _row(key))


def _disk_error(path: Path, error: sqlite3.Error) -> TransportError:
    told, code = f"{path}: {error}", getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFullError(told)
    return DiskBrokenError(told) if code == sqlite3.SQLITE_IOERR else TransportError(told)


def _row(key: SettingKey) -> tuple[str, str, str]:
    return key.mechanism, key.target, key.verb
