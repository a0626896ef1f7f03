from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.descriptions.errors import TransportError
from shoal.telemetry.connection import InFlight
from shoal.telemetry.publication import Pending, Priority, Publication, SendQueue

CONTROL, HIGH, LOW = Priority.CONTROL, Priority.HIGH, Priority.LOW
ALL = dict.fromkeys(Priority, True)


def in_loop(test: Callable[[], None]) -> None:
    async def run() -> None:
        test()

    asyncio.run(run())


def pending(priority: Priority, name: str = "", qos: int = 1) -> Pending:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.add_done_callback(lambda future: future.cancelled() or future.exception())
    return Pending(Publication(name or priority.name, b"", qos), priority, done)


def drain(queue: SendQueue) -> list[str]:
    names = []
    while (item := queue.pop(ALL)) is not None:
        names.append(item.publication.topic)
    return names


def test_control_goes_first_and_each_class_keeps_its_order() -> None:
    def check() -> None:
        queue = SendQueue()
        for priority, name in [(LOW, "l1"), (HIGH, "h1"), (CONTROL, "c1"), (LOW, "l2"), (HIGH, "h2"), (CONTROL, "c2")]:
            queue.push(pending(priority, name))
        assert drain(queue) == ["c1", "c2", "h1", "h2", "l1", "l2"]

    in_loop(check)


def test_a_full_telemetry_queue_sheds_the_oldest_low_and_leaves_control_alone() -> None:
    def check() -> None:
        queue = SendQueue(control_max=2, bulk_max=2)
        oldest = pending(LOW, "l1")
        for item in (oldest, pending(LOW, "l2"), pending(HIGH, "h1")):
            queue.push(item)
        assert isinstance(oldest.done.exception(), TransportError)
        queue.push(pending(HIGH, "h2"))
        with pytest.raises(TransportError, match="HIGH queue is full"):
            queue.push(pending(HIGH, "h3"))
        with pytest.raises(TransportError, match="LOW queue is full"):
            queue.push(pending(LOW, "l3"))
        queue.push(pending(CONTROL, "c1"))
        assert queue.shed == {CONTROL: 0, HIGH: 1, LOW: 3}
        assert drain(queue) == ["c1", "h1", "h2"]

    in_loop(check)


def test_a_full_control_queue_refuses() -> None:
    def check() -> None:
        queue = SendQueue(control_max=1)
        queue.push(pending(CONTROL))
        with pytest.raises(TransportError, match="CONTROL queue is full"):
            queue.push(pending(CONTROL))
        assert queue.shed[CONTROL] == 1

    in_loop(check)


def test_qos_0_passes_where_the_window_is_closed_but_not_past_its_own_class() -> None:
    def check() -> None:
        queue = SendQueue()
        queue.push(pending(HIGH, "h1", qos=1))
        queue.push(pending(HIGH, "h2", qos=0))
        queue.push(pending(LOW, "l1", qos=0))
        item = queue.pop(dict.fromkeys(Priority, False))
        assert item is not None
        assert item.publication.topic == "l1"
        assert queue.pop(dict.fromkeys(Priority, False)) is None

    in_loop(check)


def test_what_its_publisher_cancelled_is_not_sent() -> None:
    def check() -> None:
        queue = SendQueue()
        first, second = pending(CONTROL, "first"), pending(CONTROL, "second")
        queue.push(first)
        queue.push(second)
        first.done.cancel()
        assert drain(queue) == ["second"]

    in_loop(check)


def test_telemetry_cannot_use_up_the_in_flight_window() -> None:
    def check() -> None:
        window = InFlight(limit=3, bulk_limit=2)
        window.add(1, pending(HIGH))
        window.add(2, pending(LOW))
        assert window.allows() == {CONTROL: True, HIGH: False, LOW: False}
        window.add(3, pending(CONTROL))
        assert window.allows() == dict.fromkeys(Priority, False)
        assert window.settle(1) is not None
        assert window.settle(1) is None
        assert window.allows() == ALL
        assert window.clear("gone") == 2
        assert window.allows() == ALL

    in_loop(check)


@given(st.lists(st.sampled_from([CONTROL, HIGH, LOW, None]), max_size=60))
def test_no_more_important_message_is_dropped_while_a_less_important_one_waits(steps: list[Priority | None]) -> None:
    """Invariant I12; every message is sent, waits, or is counted as shed."""

    def check() -> None:
        queue, pushed, popped = SendQueue(control_max=3, bulk_max=3), 0, 0
        for step in steps:
            if step is None:
                popped += queue.pop(ALL) is not None
                continue
            pushed += 1
            low = queue.depth(LOW)
            try:
                queue.push(pending(step))
            except TransportError:
                assert step is CONTROL or low == 0
        assert pushed == popped + len(queue) + sum(queue.shed.values())
        assert queue.depth(CONTROL) <= 3
        assert queue.depth(HIGH) + queue.depth(LOW) <= 3

    in_loop(check)
