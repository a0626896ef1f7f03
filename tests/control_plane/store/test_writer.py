"""The writer thread: group commit, jobs that fail alone, groups that fail together, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import text

from shoal.control_plane.store.database import Database
from shoal.control_plane.store.errors import ConflictError, StoreError, StoreFailure
from shoal.control_plane.store.records import Put
from shoal.control_plane.store.transaction import Transaction
from shoal.control_plane.store.writer import Committed

Open = Callable[..., AbstractContextManager[Database]]


class Blocked:
    """Holds the writer thread in a job, so that what is queued meanwhile makes one group."""

    def __init__(self, database: Database) -> None:
        self._go = threading.Event()
        started = threading.Event()

        def wait(_: Transaction) -> None:
            started.set()
            assert self._go.wait(10)

        self._future = database.write(wait)
        assert started.wait(10)

    def release(self) -> None:
        self._go.set()
        self._future.result(10)


def put(name: str, doc: bytes = b"{}", version: int | None = None) -> Callable[[Transaction], int]:
    return lambda tx: tx.put("Node", name, doc, expected_version=version).resource_version


def put_both(doc: bytes) -> Callable[[Transaction], None]:
    def job(tx: Transaction) -> None:
        tx.put_many([Put("Node", name, doc) for name in "ab"])

    return job


def names(database: Database) -> list[str]:
    return [row.name for row in database.read(lambda tx: tx.all("Node")).result()]


def test_writes_that_wait_together_share_a_commit(database: Database) -> None:
    blocked = Blocked(database)
    futures = [database.write(put(f"n{index:02}")) for index in range(50)]
    before = database.status().commits
    blocked.release()
    assert [future.result(10) for future in futures] == list(range(1, 51))
    assert database.status().commits == before + 2, "the blocker's and one for all fifty"


def test_a_job_that_fails_takes_back_only_its_own_rows(database: Database) -> None:
    def failing(tx: Transaction) -> None:
        tx.put("Node", "lost", b"{}")
        tx.next_generation()
        raise RuntimeError("a mistake of the caller")

    blocked = Blocked(database)
    first, broken, last = database.write(put("first")), database.write(failing), database.write(put("last"))
    generation = database.write(lambda tx: tx.next_generation())
    blocked.release()
    assert (first.result(10), last.result(10)) == (1, 2)
    with pytest.raises(RuntimeError, match="a mistake of the caller"):
        broken.result(10)
    assert generation.result(10) == 1
    assert names(database) == ["first", "last"]


def test_a_failure_that_rests_on_a_lost_commit_is_told_as_lost(database: Database) -> None:
    """The second job sees the first one's row; if that is never committed, "exists already" would be a lie."""

    def breaking(tx: Transaction) -> None:
        tx._connection.execute(text("SELECT * FROM no_such_table"))

    blocked = Blocked(database)
    first = database.write(put("a"))
    second = database.write(lambda tx: tx.put("Node", "a", b"2", expected_version=0))
    third = database.write(breaking)
    blocked.release()
    for future in (first, second, third):
        with pytest.raises(StoreError):
            future.result(10)
    assert names(database) == []
    assert database.write(put("a")).result(10) == 1, "the writer goes on, and no version was used up"


def test_watches_are_told_of_what_was_committed_and_nothing_else(opened: Open) -> None:
    told: list[Committed] = []
    with opened(committed=told.append) as database:
        database.write(put("a")).result(10)
        with pytest.raises(ConflictError):
            database.write(lambda tx: tx.put("Node", "a", b"x", expected_version=9)).result(10)
        database.write(lambda tx: tx.delete("Node", "a")).result(10)
    changes = [(change.version, change.operation.value, change.object.name) for one in told for change in one.changes]
    assert changes == [(1, "put", "a"), (2, "delete", "a")]
    assert [one.head for one in told] == [1, 1, 2]


def test_many_threads_count_without_losing_one(database: Database) -> None:
    """Each adds one to a shared counter by read-compare-write, again until it fits."""
    database.write(put("counter", b"0")).result()

    def add() -> int:
        for tries in range(10_000):
            seen = database.read(lambda tx: tx.get("Node", "counter")).result()
            assert seen is not None
            doc, version = str(int(seen.doc) + 1).encode(), seen.resource_version
            try:
                database.write(put("counter", doc, version)).result()
            except ConflictError:
                continue
            return tries
        raise AssertionError("never fitted")

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(add) for _ in range(80)]:
            future.result(60)
    counter = database.read(lambda tx: tx.get("Node", "counter")).result()
    assert counter is not None
    assert counter.doc == b"80"


def test_a_reader_sees_one_moment(database: Database) -> None:
    database.write(put_both(b"0")).result()
    torn = threading.Event()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            rows = database.read(lambda tx: (tx.get("Node", "a"), tx.get("Node", "b"))).result()
            if len({row.doc for row in rows if row}) != 1:
                torn.set()

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(100):
        database.write(put_both(str(number).encode())).result()
    stop.set()
    looker.join(10)
    assert not torn.is_set()


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError):
        database.read(lambda tx: tx._connection.execute(text("DELETE FROM objects"))).result()


def test_a_cancelled_write_that_has_not_begun_never_happens(database: Database) -> None:
    blocked = Blocked(database)
    doomed: Future[int] = database.write(put("a"))
    assert doomed.cancel()
    blocked.release()
    assert database.write(put("b")).result(10) == 1
    assert names(database) == ["b"]


def test_closing_finishes_what_is_queued_and_refuses_the_rest(opened: Open) -> None:
    with opened() as database:
        blocked = Blocked(database)
        queued = database.write(put("a"))
        closer = threading.Thread(target=database.close)
        closer.start()
        blocked.release()
        closer.join(10)
        assert queued.result(10) == 1
        with pytest.raises(StoreError) as caught:
            database.write(put("b"))
        assert caught.value.failure is StoreFailure.CLOSED
        with pytest.raises(StoreError):
            database.read(lambda tx: tx.version)
    with opened() as database:
        assert names(database) == ["a"]


def test_commits_wait_for_the_disk(database: Database) -> None:
    def modes(tx: Transaction) -> tuple[str, int]:
        journal = tx._connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return journal, tx._connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

    full = 2
    assert database.write(modes).result() == ("wal", full)
