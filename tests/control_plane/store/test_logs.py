"""Events, decisions and audit: appended in one order with everything else, queried, and kept under their caps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import pytest

from shoal.control_plane.store.database import Database, StoreOptions
from shoal.control_plane.store.errors import StoreError, StoreFailure
from shoal.control_plane.store.records import (
    MESSAGE_CHARS_MAX,
    AuditEntry,
    AuditQuery,
    DecisionEntry,
    DecisionQuery,
    EventEntry,
    EventQuery,
    IdempotentReply,
    Retention,
    RetentionLimits,
    Severity,
)
from shoal.control_plane.store.transaction import Transaction

Open = Callable[..., AbstractContextManager[Database]]
NEVER = 1e9


class Clock:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def event(reason: str = "Placed", **more: object) -> EventEntry:
    return EventEntry(reason, "a sentence", **more)  # type: ignore[arg-type]


def decision(number: int, application: str = "shop", outcome: str = "placed") -> DecisionEntry:
    return DecisionEntry(f"d{number}", application, "web", outcome, b'{"number":%d}' % number)


def append_events(tx: Transaction, entries: list[EventEntry]) -> None:
    tx.append_events(entries)


def append_decisions(tx: Transaction, entries: list[DecisionEntry]) -> None:
    tx.append_decisions(entries)


def test_events_share_the_order_of_objects(database: Database) -> None:
    first = database.write(lambda tx: tx.append_event(event())).result()
    made = database.write(lambda tx: tx.put("Node", "a", b"{}")).result()
    second = database.write(lambda tx: tx.append_event(event())).result()
    assert first.version < made.resource_version < second.version


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (EventQuery(), ["Lost", "Placed", "Placed"]),
        (EventQuery(newest_first=False), ["Placed", "Placed", "Lost"]),
        (EventQuery(reason="Lost"), ["Lost"]),
        (EventQuery(kind="Node", name="edge-1"), ["Lost"]),
        (EventQuery(application="shop"), ["Placed", "Placed"]),
        (EventQuery(node="edge-1"), ["Lost", "Placed"]),
        (EventQuery(limit=1), ["Lost"]),
        (EventQuery(before_version=3), ["Placed", "Placed"]),
        (EventQuery(after_version=2), ["Lost"]),
        (EventQuery(application="none"), []),
    ],
)
def test_events_are_found_by_what_they_are_about(database: Database, query: EventQuery, found: list[str]) -> None:
    entries = [
        event(kind="Application", name="shop", application="shop"),
        event(kind="Application", name="shop", application="shop", node="edge-1"),
        event("Lost", kind="Node", name="edge-1", node="edge-1", severity=Severity.WARNING, detail=b"{}"),
    ]
    logged = database.write(lambda tx: tx.append_events(entries)).result()
    rows = database.read(lambda tx: tx.events(query)).result()
    assert [row.entry.reason for row in rows] == found
    assert set(rows) <= set(logged), "what is read is what was written"


def test_a_long_or_odd_message_is_cut_and_cleaned(database: Database) -> None:
    database.write(lambda tx: tx.append_event(EventEntry("Odd", "\ud800" + "x" * 2 * MESSAGE_CHARS_MAX))).result()
    message = database.read(lambda tx: tx.events(EventQuery())).result()[0].entry.message
    assert message == "?" + "x" * (MESSAGE_CHARS_MAX - 1)


def test_decisions_come_back_whole_and_newest_first(database: Database) -> None:
    entries = [decision(1), decision(2, "other"), decision(3, outcome="unplaced")]
    database.write(lambda tx: tx.append_decisions(entries)).result()
    rows = database.read(lambda tx: tx.decisions(DecisionQuery())).result()
    assert [row.entry for row in rows] == entries[::-1]
    assert [row.entry.id for row in database.read(lambda tx: tx.decisions(DecisionQuery("shop"))).result()] == [
        "d3",
        "d1",
    ]
    one = database.read(lambda tx: tx.decision("d2")).result()
    assert one is not None
    assert one.entry == entries[1]
    assert database.read(lambda tx: tx.decision("d9")).result() is None
    assert database.read(lambda tx: tx.decisions(DecisionQuery(outcome="unplaced", component="web"))).result() == (
        rows[0],
    )


def test_decisions_are_found_by_time(opened: Open) -> None:
    clock = Clock()
    with opened(now_s=clock) as database:
        for number in range(3):
            clock.now_s += 10
            database.write(partial(append_decisions, entries=[decision(number)])).result()
        middle_ms = int((clock.now_s - 10) * 1000)
        found = database.read(
            lambda tx: tx.decisions(DecisionQuery(since_ms=middle_ms, until_ms=middle_ms + 1))
        ).result()
        assert [row.entry.id for row in found] == ["d1"]


def test_a_decision_id_is_never_used_twice(database: Database) -> None:
    database.write(lambda tx: tx.append_decision(decision(1))).result()
    with pytest.raises(StoreError) as caught:
        database.write(lambda tx: tx.append_decision(decision(1))).result()
    assert caught.value.failure is StoreFailure.DUPLICATE


def test_audit_rows_come_back_whole(database: Database) -> None:
    entries = [AuditEntry(actor, "deployer", "apply", "Application", "shop", "r1", b"{}") for actor in ("ann", "ben")]
    versions = [database.write(lambda tx, entry=entry: tx.append_audit(entry)).result() for entry in entries]  # type: ignore[misc]
    rows = database.read(lambda tx: tx.audit(AuditQuery())).result()
    assert [(row.version, row.entry) for row in rows] == list(zip(versions, entries, strict=True))[::-1]
    assert [row.entry.actor for row in database.read(lambda tx: tx.audit(AuditQuery(actor="ann"))).result()] == ["ann"]
    assert database.read(lambda tx: tx.audit(AuditQuery(before_version=versions[0]))).result() == ()


def test_a_reply_is_kept_for_its_key(database: Database) -> None:
    reply = IdempotentReply("p", "key", "f" * 64, 201, b"body", (("ETag", '"1"'),))
    database.write(lambda tx: tx.remember_reply(reply)).result()
    assert database.read(lambda tx: tx.reply("p", "key")).result() == reply
    assert database.read(lambda tx: tx.reply("other", "key")).result() is None


def test_rows_over_the_cap_go_oldest_first_and_are_counted(opened: Open) -> None:
    limits = RetentionLimits(events=Retention(rows_max=50, age_s_max=NEVER), batch_rows=40)
    with opened(StoreOptions(retention=limits)) as database:
        for number in range(10):
            entries = [event(f"E{number}-{index}") for index in range(30)]
            database.write(partial(append_events, entries=entries)).result()
        size = database.status().sizes["events"]
        kept = database.read(lambda tx: tx.events(EventQuery())).result()
        assert kept[0].entry.reason == "E9-29"
        assert len(kept) == size.rows <= 150, "the cap, and the slack that saves pruning at every commit"
        assert size.rows + size.pruned == 300
        compacted = database.read(lambda tx: tx.events_compacted).result()
        assert compacted == kept[-1].version - 1
    with opened(StoreOptions(retention=limits)) as database:
        assert database.status().sizes["events"] == size, "counts survive a restart"


def test_old_rows_go_by_age_a_batch_at_a_time(opened: Open) -> None:
    clock = Clock()
    limits = RetentionLimits(decisions=Retention(rows_max=1000, age_s_max=100.0), batch_rows=4)
    with opened(StoreOptions(retention=limits), now_s=clock) as database:
        database.write(lambda tx: tx.append_decisions([decision(number) for number in range(6)])).result()
        clock.now_s += 101
        database.write(lambda tx: tx.append_decision(decision(6))).result()
        assert database.status().sizes["decisions"].rows == 3, "one batch"
        clock.now_s += 61
        database.write(lambda tx: tx.append_decision(decision(7))).result()
        assert [row.entry.id for row in database.read(lambda tx: tx.decisions(DecisionQuery())).result()] == [
            "d7",
            "d6",
        ]


def test_every_table_that_grows_has_a_cap() -> None:
    limits = RetentionLimits()
    capped = {field.name for field in dataclasses.fields(limits)} - {"batch_rows"}
    assert capped == {"events", "decisions", "audit", "tombstones", "idempotency"}
