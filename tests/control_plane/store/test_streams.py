"""What keeps messages exactly-once and leaders single: stream positions, generations, fences and epochs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from shoal.control_plane.store.database import Database
from shoal.control_plane.store.errors import ConflictError, FencedError
from shoal.control_plane.store.records import EventEntry, EventQuery
from shoal.control_plane.store.transaction import Transaction

Open = Callable[..., AbstractContextManager[Database]]


def apply(tx: Transaction, after: int, to: int) -> None:
    """What the driver does with a batch of events: effects and position in one transaction."""
    for seq in range(after + 1, to + 1):
        tx.append_event(EventEntry("Seen", f"event {seq}"))
    tx.advance_stream("uid-1", "s", after=after, to=to)


def seen(database: Database) -> list[str]:
    rows = database.read(lambda tx: tx.events(EventQuery(newest_first=False))).result()
    return [row.entry.message for row in rows]


def test_a_stream_starts_at_zero_and_moves(database: Database) -> None:
    assert database.read(lambda tx: tx.stream_position("uid-1", "s")).result() == 0
    database.write(lambda tx: apply(tx, 0, 2)).result()
    database.write(lambda tx: apply(tx, 2, 3)).result()
    assert database.read(lambda tx: tx.stream_positions()).result() == {("uid-1", "s"): 3}
    assert seen(database) == ["event 1", "event 2", "event 3"]


@pytest.mark.parametrize(("after", "to"), [(0, 2), (1, 3), (3, 4), (2, 2)], ids=["again", "overlap", "gap", "nothing"])
def test_a_batch_that_does_not_follow_has_no_effect(database: Database, after: int, to: int) -> None:
    database.write(lambda tx: apply(tx, 0, 2)).result()
    with pytest.raises(ConflictError) as caught:
        database.write(lambda tx: apply(tx, after, to)).result()
    assert caught.value.current == 2
    assert seen(database) == ["event 1", "event 2"]


def test_streams_of_a_node_that_is_gone_are_forgotten(database: Database) -> None:
    database.write(lambda tx: apply(tx, 0, 2)).result()
    database.write(lambda tx: tx.advance_stream("uid-2", "s", after=0, to=1)).result()
    database.write(lambda tx: tx.forget_streams("uid-1")).result()
    assert database.read(lambda tx: tx.stream_positions()).result() == {("uid-2", "s"): 1}


def test_generations_never_repeat_not_even_after_a_failure_or_restart(opened: Open) -> None:
    def failing(tx: Transaction) -> None:
        tx.next_generation()
        raise RuntimeError

    with opened() as database:
        first = [database.write(lambda tx: tx.next_generation()).result() for _ in range(3)]
        with pytest.raises(RuntimeError):
            database.write(failing).result()
    with opened() as database:
        second = [database.write(lambda tx: tx.next_generation()).result() for _ in range(2)]
    assert first + second == [1, 2, 3, 4, 5]


def test_generations_leap_over_what_nodes_know_after_a_restore(database: Database) -> None:
    database.write(lambda tx: tx.raise_generation(40)).result()
    database.write(lambda tx: tx.raise_generation(7)).result()
    assert database.write(lambda tx: tx.next_generation()).result() == 41


def test_each_take_over_has_a_higher_fence(opened: Open) -> None:
    with opened() as database:
        first = database.lead("one")
    with opened() as database:
        second = database.lead("two")
        assert (first.fence, second.fence) == (1, 2)
        assert database.read(lambda tx: tx.leader()).result() == second
        assert second.holder == "two"


def test_an_old_fence_is_refused(database: Database) -> None:
    old = database.write(lambda tx: tx.take_leadership("one")).result().fence
    database.write(lambda tx: tx.check_fence(old)).result()
    database.write(lambda tx: tx.take_leadership("two")).result()
    with pytest.raises(FencedError) as caught:
        database.write(lambda tx: tx.check_fence(old)).result()
    assert (caught.value.own, caught.value.current) == (1, 2)


def test_a_process_that_was_overtaken_commits_nothing_more(database: Database) -> None:
    database.lead("one")
    database.write(lambda tx: tx.put("Node", "a", b"{}")).result()
    database.write(lambda tx: tx.take_leadership("two")).result()  # As another process would do it.
    with pytest.raises(FencedError):
        database.write(lambda tx: tx.put("Node", "b", b"{}")).result()
    assert [row.name for row in database.read(lambda tx: tx.all("Node")).result()] == ["a"]


def test_the_epoch_counts_restores(opened: Open) -> None:
    with opened() as database:
        assert database.read(lambda tx: tx.leader()).result().epoch == 1
        assert database.write(lambda tx: tx.bump_epoch()).result().epoch == 2
    with opened() as database:
        assert database.read(lambda tx: tx.leader()).result().epoch == 2
