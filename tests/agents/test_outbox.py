"""Tables of the outbox core: what is stored, sent, sent again, acknowledged and given up."""

from __future__ import annotations

from shoal.agents.outbox import BATCH_AGAIN_S, BATCHES_IN_FLIGHT_MAX, Limits, Outbox
from shoal.agents.outbox_events import (
    Acked,
    BatchFinished,
    BatchReady,
    BatchUrgency,
    DeleteEvents,
    DropBatch,
    Effect,
    Event,
    EventRaised,
    EventUrgency,
    Ignored,
    LinkDown,
    LinkUp,
    PeerReturned,
    SendBatch,
    SendEvents,
    Stored,
    StoreEvent,
    Urgency,
    WakeAt,
    Woken,
)
from shoal.agents.stream import ACK_S, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, WINDOW_MAX, StreamStart


def outbox(quota: int = 1_000_000, p1: StreamStart | None = None) -> Outbox:
    return Outbox(StreamStart("zero"), p1 or StreamStart("one"), Limits(quota, quota))


def run(one: Outbox, *events: Event, now_s: float = 0.0) -> list[Effect]:
    return [effect for event in events for effect in one.handle(event, now_s)]


def raised(urgency: EventUrgency = Urgency.P1, size: int = 100) -> EventRaised:
    return EventRaised("e", urgency, size)


def stored(upto: int, urgency: EventUrgency = Urgency.P1) -> Stored:
    return Stored("s", urgency, upto)


def batch(key: str, urgency: BatchUrgency = Urgency.P2, size: int = 100) -> BatchReady:
    return BatchReady(key, urgency, size)


def test_an_event_is_stored_then_sent_then_deleted() -> None:
    one = outbox()
    run(one, LinkUp("u"))
    assert run(one, raised()) == [StoreEvent("e", Urgency.P1, "one", 1)]
    assert run(one, stored(1)) == [SendEvents("s", Urgency.P1, "one", 1, 1, 1), WakeAt("s", ACK_S)]
    assert run(one, Acked("a", "one", 1)) == [DeleteEvents("a", Urgency.P1, "one", 1)]
    assert one.waiting == 0


def test_each_urgency_is_a_stream_without_gaps() -> None:
    one = outbox()
    effects = run(one, raised(Urgency.P0), raised(), raised(), raised(Urgency.P0))
    assert [(e.stream, e.seq) for e in effects if isinstance(e, StoreEvent)] == [
        ("zero", 1), ("one", 1), ("one", 2), ("zero", 2),
    ]  # fmt: skip


def test_what_an_earlier_run_left_is_sent_on_connecting_most_urgent_first() -> None:
    one = Outbox(StreamStart("zero", 5, (10,)), StreamStart("one", 7, (10, 10)))
    assert run(one, LinkUp("u"))[:2] == [
        SendEvents("u", Urgency.P0, "zero", 5, 5, 5),
        SendEvents("u", Urgency.P1, "one", 7, 8, 7),
    ]
    assert run(one, raised())[0] == StoreEvent("e", Urgency.P1, "one", 9)


def test_a_new_connection_sends_again_what_was_not_acknowledged() -> None:
    one = outbox()
    run(one, LinkUp("u"), raised(), raised(), stored(2), Acked("a", "one", 1))
    assert run(one, LinkDown("d")) == []
    assert run(one, LinkUp("u"))[0] == SendEvents("u", Urgency.P1, "one", 2, 2, 2)


def test_a_peer_that_returns_is_sent_at_once_what_it_missed() -> None:
    one = outbox()
    run(one, LinkUp("u"), raised(), stored(1), batch("b"))
    assert [type(effect) for effect in run(one, PeerReturned("p"))] == [SendEvents]  # and no batch twice


def test_an_acknowledgement_that_never_comes_sends_again() -> None:
    one = outbox()
    run(one, LinkUp("u"), raised(), stored(1))
    assert run(one, Woken("w"), now_s=ACK_S - 1)[:1] != [SendEvents("w", Urgency.P1, "one", 1, 1, 1)]
    assert run(one, Woken("w"), now_s=ACK_S)[0] == SendEvents("w", Urgency.P1, "one", 1, 1, 1)


def test_batches_of_events_and_the_window_are_bounded() -> None:
    count = WINDOW_MAX + 50
    one = outbox(p1=StreamStart("one", 1, (100,) * count))
    sent = [effect for effect in run(one, LinkUp("u")) if isinstance(effect, SendEvents)]
    assert all(effect.last - effect.first < BATCH_EVENTS_MAX for effect in sent)
    assert sent[-1].last == WINDOW_MAX
    more = [effect for effect in run(one, Acked("a", "one", WINDOW_MAX)) if isinstance(effect, SendEvents)]
    assert [(effect.first, effect.last) for effect in more] == [(WINDOW_MAX + 1, count)]
    large = outbox(p1=StreamStart("one", 1, (BATCH_BYTES_MAX - 10, 100, 100)))
    ranges = [(e.first, e.last) for e in run(large, LinkUp("u")) if isinstance(e, SendEvents)]
    assert ranges == [(1, 1), (2, 3)]


def test_acknowledgements_that_cannot_be_true_delete_nothing() -> None:
    one = outbox()
    run(one, LinkUp("u"), raised(), stored(1))
    assert isinstance(run(one, Acked("a", "one", 2))[0], Ignored)
    assert isinstance(run(one, Acked("a", "gone", 1))[0], Ignored)
    assert one.waiting == 1
    run(one, Acked("a", "one", 1))
    assert not any(isinstance(effect, DeleteEvents) for effect in run(one, Acked("a", "one", 1)))


def test_telemetry_is_dropped_before_any_event_and_counted() -> None:
    one = outbox(quota=1000)
    run(one, batch("b1", size=400), batch("b2", size=400))
    effects = run(one, raised(size=500))
    assert effects == [DropBatch("e", "b1"), StoreEvent("e", Urgency.P1, "one", 1)]
    effects = run(one, raised(size=450))
    assert effects == [
        DropBatch("e", "b2"), StoreEvent("e", Urgency.P1, "one", 2)
    ]  # fmt: skip
    assert run(one, raised(size=100)) == [
        DeleteEvents("e", Urgency.P1, "one", 1), StoreEvent("e", Urgency.P1, "one", 3)
    ]  # fmt: skip
    assert one.dropped == {Urgency.P0: 0, Urgency.P1: 1, Urgency.P2: 2}
    assert one.is_under_pressure


def test_less_urgent_items_leave_room_for_more_urgent_ones() -> None:
    one = outbox(quota=1000)
    run(one, *[batch(f"b{n}", size=100) for n in range(20)])
    assert one.bytes == 900  # P2 fills 90 %
    run(one, *[raised(size=90) for _ in range(20)])
    assert one.bytes == 990  # P2 and P1 fill 99 %
    before = one.dropped[Urgency.P1]
    run(one, raised(Urgency.P0, size=10))
    assert (one.bytes, one.dropped[Urgency.P1]) == (1000, before)  # P0 finds its place
    run(one, raised(Urgency.P0, size=10))
    assert one.dropped[Urgency.P0] == 0
    assert one.dropped[Urgency.P1] == before + 1


def test_what_can_never_fit_is_given_up_itself() -> None:
    one = outbox(quota=1000)
    run(one, raised(Urgency.P0, size=995))
    assert run(one, raised(size=100)) == []
    assert one.dropped[Urgency.P1] == 1
    assert run(one, batch("b", size=100)) == [DropBatch("b", "b")]


def test_first_available_tells_of_what_was_given_up() -> None:
    one = outbox(quota=1000)
    run(one, *[raised(size=400) for _ in range(3)], stored(3))
    assert run(one, LinkUp("u"))[0] == SendEvents("u", Urgency.P1, "one", 2, 3, 2)


def test_telemetry_goes_high_first_a_few_at_a_time() -> None:
    one = outbox()
    high: BatchUrgency = Urgency.P1
    run(one, *[batch(f"lo{n}") for n in range(BATCHES_IN_FLIGHT_MAX)], batch("hi", high))
    sent = [effect.batch for effect in run(one, LinkUp("u")) if isinstance(effect, SendBatch)]
    assert sent[0] == "hi"
    assert len(sent) == BATCHES_IN_FLIGHT_MAX
    assert run(one, BatchFinished("f", "hi", is_sent=True)) == [
        SendBatch("f", f"lo{BATCHES_IN_FLIGHT_MAX - 1}", Urgency.P2)
    ]


def test_a_batch_that_could_not_be_sent_waits_a_second() -> None:
    one = outbox()
    run(one, LinkUp("u"), batch("b"))
    assert run(one, BatchFinished("f", "b", is_sent=False), now_s=5.0) == [WakeAt("f", 5.0 + BATCH_AGAIN_S)]
    assert run(one, Woken("w"), now_s=6.0) == [SendBatch("w", "b", Urgency.P2)]


def test_telemetry_in_memory_has_its_own_cap() -> None:
    one = Outbox(StreamStart("zero"), StreamStart("one"), Limits(1_000_000, telemetry_max=1000))
    run(one, *[batch(f"b{n}", size=300) for n in range(5)])
    assert (one.bytes, one.dropped[Urgency.P2]) == (900, 2)
