from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from shoal.telemetry.inbox import Inbox, Message


def message(name: str, qos: int = 1) -> Message:
    return Message(name, b"", qos, False, False, 0.0)


def test_control_is_read_before_telemetry() -> None:
    async def check() -> None:
        inbox = Inbox()
        for name, bulk in [("t1", True), ("c1", False), ("t2", True), ("c2", False)]:
            assert inbox.put(message(name), bulk=bulk)
        inbox.close()
        names = []
        while (read := await inbox.get()) is not None:
            names.append(read.topic)
        assert names == ["c1", "c2", "t1", "t2"]

    asyncio.run(check())


def test_a_full_queue_refuses_what_must_not_be_lost_and_sheds_the_rest() -> None:
    async def check() -> None:
        inbox = Inbox(control_max=1, bulk_max=2)
        assert inbox.put(message("c1", qos=0), bulk=False)
        assert not inbox.put(message("c2", qos=0), bulk=False)
        assert inbox.put(message("t1", qos=0), bulk=True)
        assert inbox.put(message("t2", qos=1), bulk=True)
        assert not inbox.put(message("t3", qos=1), bulk=True)
        assert inbox.put(message("t4", qos=0), bulk=True)
        assert inbox.shed == 1
        assert [(await inbox.get()).topic for _ in range(3)] == ["c1", "t2", "t4"]  # type: ignore[union-attr]

    asyncio.run(check())


def test_qos_1_telemetry_is_never_shed_for_qos_0() -> None:
    async def check() -> None:
        inbox = Inbox(bulk_max=1)
        assert inbox.put(message("kept", qos=1), bulk=True)
        assert inbox.put(message("shed", qos=0), bulk=True)
        assert inbox.shed == 1
        read = await inbox.get()
        assert read is not None
        assert read.topic == "kept"

    asyncio.run(check())


def test_waiting_for_room_ends_when_the_consumer_has_caught_up_with_half() -> None:
    async def check() -> None:
        inbox = Inbox(control_max=4)
        for number in range(4):
            inbox.put(message(str(number)), bulk=False)
        waiting = asyncio.create_task(inbox.wait_for_room())
        await inbox.get()
        await asyncio.sleep(0)
        assert not waiting.done()
        await inbox.get()
        await asyncio.wait_for(waiting, 5.0)

    asyncio.run(check())


def test_an_empty_inbox_ends_a_waiting_consumer_when_it_closes() -> None:
    async def check() -> None:
        inbox = Inbox()
        reader = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.close()
        assert await asyncio.wait_for(reader, 5.0) is None

    asyncio.run(check())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1)), max_size=40))
def test_nothing_vanishes_uncounted(arrivals: list[tuple[bool, int]]) -> None:
    async def check() -> None:
        inbox = Inbox(control_max=5, bulk_max=5)
        accepted = [m for bulk, qos in arrivals if inbox.put(m := message("x", qos), bulk=bulk)]
        assert len(accepted) == len(inbox) + inbox.shed

    asyncio.run(check())
