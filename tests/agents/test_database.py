"""The agent's database with real SQLite: what is committed is there after a crash, damage is put aside."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.agents.database import QUARANTINE_MAX, RESULTS_MAX, Database, JournalEntry, StoredEvent
from shoal.agents.files import DiskFullError
from shoal.agents.mark import Mark
from shoal.agents.outbox_events import Urgency
from shoal.agents.reconcile_events import SettingKey
from shoal.agents.stream import StreamStart
from shoal.descriptions.errors import TransportError
from shoal.descriptions.mechanism import MechanismCommand
from shoal.mechanisms.arguments import values

KEY = SettingKey("fan", "", "setSpeed")
UNDO = MechanismCommand("u", "setSpeed", "", values(speed=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    one = Database(path)
    yield one
    one.close()


def again(database: Database) -> Database:
    database.close()
    return Database(database.path)


def test_what_is_saved_is_there_again(database: Database) -> None:
    assert (database.mark(), database.good_digest()) == (Mark(), "")
    database.save_mark(Mark(2, 7, "abc", 3))
    database.save_good_digest("abc")
    database.save_result("c1", b"done")
    assert [database.next_incarnation(1), database.next_incarnation(1), database.next_incarnation(9)] == [1, 2, 9]
    other = again(database)
    assert (other.mark(), other.good_digest(), other.result("c1")) == (Mark(2, 7, "abc", 3), "abc", b"done")
    assert (other.result("c2"), other.next_incarnation(1), other.quarantined) == (None, 10, "")
    assert other.path.stat().st_mode & 0o777 == 0o600
    other.close()


def test_events_keep_their_numbers_though_all_are_deleted(database: Database) -> None:
    start = database.stream_start(Urgency.P1)
    assert (start.first, start.sizes) == (1, ())
    database.write_events([StoredEvent(Urgency.P1, seq, b"x" * seq) for seq in (1, 2, 3)], {})
    database.write_events([], {Urgency.P1: 2})
    assert database.stream_start(Urgency.P1) == StreamStart(start.stream, 3, (3,))
    database.write_events([], {Urgency.P1: 3})
    other = again(database)
    assert other.stream_start(Urgency.P1) == StreamStart(start.stream, 4, ())
    assert other.stream_start(Urgency.P0).stream != start.stream
    other.close()


def test_a_transaction_is_whole_or_absent(database: Database) -> None:
    database.write_events([StoredEvent(Urgency.P0, 1, b"a")], {})
    with pytest.raises(TransportError, match="UNIQUE"):
        database.write_events([StoredEvent(Urgency.P0, 2, b"b"), StoredEvent(Urgency.P0, 1, b"a")], {Urgency.P0: 1})
    assert database.read_events(Urgency.P0, 1, 9) == [b"a"]


def test_only_the_latest_results_are_kept(database: Database) -> None:
    with database._transaction() as connection:
        rows = [(number, f"c{number}", b"") for number in range(1, RESULTS_MAX + 1)]
        connection.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
    database.save_result("new", b"x")
    assert (database.result("c1"), database.result("c2"), database.result("new")) == (None, b"", b"x")


def test_the_journal_remembers_the_way_back_to_before_the_first_change(database: Database) -> None:
    database.journal_acting(KEY, UNDO)
    assert database.journal() == (JournalEntry(KEY, UNDO, "acting"),)
    database.journal_done(KEY)
    database.journal_acting(KEY, MechanismCommand("u2", "setSpeed", "", values(speed=3)))
    other = again(database)
    assert other.journal() == (JournalEntry(KEY, UNDO, "acting"),)
    other.journal_done(KEY)
    assert other.journal() == (JournalEntry(KEY, UNDO, "done"),)
    other.journal_strike(KEY)
    assert other.journal() == ()
    other.journal_acting(KEY, None)
    assert other.journal() == (JournalEntry(KEY, None, "acting"),)
    other.close()


@pytest.mark.parametrize(
    "damage",
    [b"not a database at all, but longer than a header" * 10, b"SQLite format 3\0" + os.urandom(4096)],
    ids=["another file", "a torn one"],
)
def test_a_damaged_database_is_put_aside_and_a_new_one_made(path: Path, damage: bytes) -> None:
    first = Database(path)
    stream = first.stream_start(Urgency.P0).stream
    first.close()
    for number in range(QUARANTINE_MAX + 2):
        path.write_bytes(damage)
        again = Database(path)
        assert again.quarantined
        assert again.stream_start(Urgency.P0).stream != stream
        assert len(list(path.parent.glob("*.damaged[0-9]"))) == min(number + 1, QUARANTINE_MAX)
        again.close()


def test_a_flipped_byte_in_a_table_is_found_by_quick_check(path: Path) -> None:
    first = Database(path)
    first.write_events([StoredEvent(Urgency.P1, seq, b"x" * 500) for seq in range(1, 200)], {})
    first.close()
    data = bytearray(path.read_bytes())
    for offset in range(4096 * 3, len(data) - 512, 512):
        data[offset : offset + 16] = b"\xff" * 16
    path.write_bytes(data)
    second = Database(path)
    assert second.quarantined
    second.close()


def test_a_database_of_a_newer_agent_is_not_touched(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(TransportError, match="newer agent"):
        Database(path)


def test_a_full_disk_is_an_error_of_its_own(database: Database) -> None:
    database._connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(DiskFullError):
        database.write_events([StoredEvent(Urgency.P1, 1, b"x" * 100_000)], {})
    database._connection.execute("PRAGMA max_page_count = 1000000")
    database.write_events([StoredEvent(Urgency.P1, 1, b"x" * 100_000)], {})


def test_without_a_disk_everything_works_in_memory() -> None:
    database = Database.in_memory()
    database.save_mark(Mark(1, 1, "a", 1))
    assert database.mark().generation == 1
    database.close()


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """A process that writes until it is killed: everything it said was committed is there."""
    script = """
import sys
from pathlib import Path
from shoal.agents.database import Database, StoredEvent
from shoal.agents.outbox_events import Urgency
database = Database(Path(sys.argv[1]))
seq = len(database.stream_start(Urgency.P1).sizes)
while True:
    seq += 1
    database.write_events([StoredEvent(Urgency.P1, seq, str(seq).encode())], {})
    print(seq, flush=True)
"""
    said = 0
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(20):
                said = int(process.stdout.readline())
            process.kill()
            said = max([said, *map(int, process.stdout.read().splitlines(keepends=True)[:-1])])
        database = Database(path)
        assert database.quarantined == ""
        bodies = database.read_events(Urgency.P1, 1, 10**9)
        assert [int(body) for body in bodies] == list(range(1, len(bodies) + 1))
        assert len(bodies) >= said
        database.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), max_size=15))
def test_numbers_never_repeat_over_restarts(steps: list[tuple[int, int, bool]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "state.db")
        used: set[int] = set()
        following = 1
        for adds, deletes, restarts in steps:
            new = list(range(following, following + adds))
            assert not used & set(new)
            used |= set(new)
            first = database.stream_start(Urgency.P1).first
            upto = min(first + deletes - 1, following + adds - 1)
            events = [StoredEvent(Urgency.P1, seq, b"x") for seq in new]
            database.write_events(events, {Urgency.P1: upto} if upto >= first else {})
            if restarts:
                database.close()
                database = Database(Path(folder) / "state.db")
            start = database.stream_start(Urgency.P1)
            following = start.first + len(start.sizes)
        assert following == max(used, default=0) + 1
        database.close()
