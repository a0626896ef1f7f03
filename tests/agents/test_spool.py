"""The outbox with a real database and a bad network: events arrive as a gap-free prefix, each exactly once (I4)."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.agents.disk import Disk
from shoal.agents.outbox import Limits
from shoal.agents.outbox_events import Urgency
from shoal.agents.spool import Spool
from shoal.descriptions.errors import TransportError
from shoal.descriptions.messages.codec import decode
from shoal.descriptions.messages.lease import Ack
from shoal.descriptions.messages.reported import EventBatch


@dataclass
class ControlPlane:
    """Applies events of each stream in order, once, and remembers how far it is, as the real one in its database."""

    applied: dict[str, list[str]] = field(default_factory=dict)
    upto: dict[str, int] = field(default_factory=dict)

    def hear(self, payload: bytes) -> Ack:
        batch = decode(EventBatch, payload)
        for event in batch.events:
            following = self.upto.get(batch.stream, 0) + 1
            assert event.seq <= following, "a gap"
            if event.seq == following:
                self.applied.setdefault(batch.stream, []).append(event.message)
                self.upto[batch.stream] = following
        return Ack(batch.stream, self.upto.get(batch.stream, 0))


@dataclass
class Network:
    """Loses, repeats and reorders batches and acknowledgements."""

    plane: ControlPlane
    rng: Random
    is_good: bool = False
    in_flight: list[bytes] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    batches: list[tuple[str, bytes]] = field(default_factory=list)

    def send(self, channel: str, payload: bytes, *, qos: int, is_telemetry: bool = False) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if is_telemetry:
            if not self.is_good:
                raise TransportError("not connected")
            self.batches.append((channel, payload))
        else:
            assert channel.startswith("up/ev/")
            assert qos == 1
            self.in_flight.append(payload)
        done.set_result(None)
        return done

    def deliver(self, spool: Spool) -> None:
        """What is on the way arrives, or not."""
        waiting, self.in_flight = self.in_flight, []
        if not self.is_good:
            self.rng.shuffle(waiting)
        for payload in waiting:
            fate = 1.0 if self.is_good else self.rng.random()
            if fate > 0.3:
                self._hear(payload)
            if 0.3 < fate < 0.5:
                self._hear(payload)
        acks, self.acks = self.acks, []
        if not self.is_good:
            self.rng.shuffle(acks)
        for ack in acks:
            if self.is_good or self.rng.random() > 0.3:
                spool.acknowledged(ack)

    def _hear(self, payload: bytes) -> None:
        batch = decode(EventBatch, payload)
        if batch.events and batch.events[0].seq > self.plane.upto.get(batch.stream, 0) + 1:
            return  # out of order: the control plane waits for what is before it
        self.acks.append(self.plane.hear(payload))


class Node:
    """An agent's spool over one folder; `crash` loses everything that was not committed."""

    def __init__(self, folder: Path, network: Network, limits: Limits | None = None) -> None:
        self.folder, self.network, self.limits = folder, network, limits or Limits()
        self._ids = 0
        self.open()

    def open(self) -> None:
        self.disk = Disk(self.folder, 0)
        self.spool = Spool("n-1", self.disk, self.network, self._id, self.limits)

    def _id(self) -> str:
        self._ids += 1
        return str(self._ids)

    async def crash(self) -> None:
        spool = self.spool
        spool._timer.cancel()
        if spool._write_soon is not None:
            spool._write_soon.cancel()
        await asyncio.gather(*spool._tasks, return_exceptions=True)
        self.disk.close()
        self.open()

    async def settle(self) -> None:
        """Everything that was begun is done; nothing waits for the group commit."""
        if self.spool._write_soon is not None:
            self.spool._write_soon.cancel()
            await self.spool._write()
        await asyncio.gather(*self.spool._tasks)

    async def close(self) -> None:
        await self.spool.close()
        self.disk.close()


STEPS = st.lists(
    st.sampled_from(["raise", "raise", "error", "commit", "deliver", "up", "down", "crash", "return"]), max_size=40
)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_every_committed_event_arrives_once_in_order(steps: list[str], seed: int) -> None:
    async def test(folder: Path) -> None:
        plane = ControlPlane()
        network = Network(plane, Random(seed))
        node = Node(folder, network)
        raised = 0
        committed: set[str] = set()
        uncommitted: set[str] = set()
        for step in steps:
            match step:
                case "raise" | "error":
                    raised += 1
                    uncommitted.add(str(raised))
                    node.spool.raise_event("T", "R", str(raised), severity="error" if step == "error" else "info")
                case "commit":
                    await node.settle()
                    committed |= uncommitted
                    uncommitted = set()
                case "deliver":
                    await asyncio.gather(*node.spool._tasks)
                    network.deliver(node.spool)
                case "up" | "down":
                    node.spool.link_changed(is_up=step == "up")
                case "return":
                    node.spool.peer_returned()
                case "crash":
                    await node.crash()
                    uncommitted = set()
        network.is_good = True
        await node.settle()
        committed |= uncommitted
        node.spool.link_changed(is_up=False)
        node.spool.link_changed(is_up=True)
        for _ in range(200):
            await node.settle()
            network.deliver(node.spool)
            if not node.spool.core.waiting and not network.in_flight:
                break
        assert node.spool.core.waiting == 0
        for messages in plane.applied.values():
            assert [int(one) for one in messages] == sorted({int(one) for one in messages})
        arrived = {one for messages in plane.applied.values() for one in messages}
        assert committed <= arrived
        await node.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(test(Path(folder)))


def run(folder: Path, test: Callable[[Node], Awaitable[None]], limits: Limits | None = None) -> Network:
    network = Network(ControlPlane(), Random(0), is_good=True)

    async def bounded() -> None:
        node = Node(folder, network, limits)
        async with asyncio.timeout(30):
            await test(node)
        await node.close()

    asyncio.run(bounded())
    return network


async def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


def test_events_of_a_moment_share_one_commit(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        before = node.disk.database.commits
        for number in range(50):
            node.spool.raise_event("T", "R", str(number))
        await until(lambda: node.disk.database.commits > before)
        assert node.disk.database.commits == before + 1

    run(tmp_path, test)


def test_an_acknowledgement_costs_no_commit_of_its_own(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        node.spool.link_changed(is_up=True)
        node.spool.raise_event("T", "R", "1")
        await until(lambda: bool(node.network.in_flight))
        before = node.disk.database.commits
        node.network.deliver(node.spool)
        await node.settle()
        assert (node.spool.core.waiting, node.disk.database.commits) == (0, before)

    run(tmp_path, test)
    reopened = Disk(tmp_path, 0)
    assert reopened.database.stream_start(Urgency.P1).sizes == ()  # deleted when it was closed
    reopened.close()


def test_telemetry_waits_in_memory_and_goes_high_first(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        node.spool.add_batch(Urgency.P2, b"low")
        node.spool.add_batch(Urgency.P1, b"high")
        assert node.network.batches == []
        node.spool.link_changed(is_up=True)
        assert node.network.batches == [("up/tel/hi", b"high"), ("up/tel/lo", b"low")]
        await until(lambda: node.spool.core.bytes == 0)
        assert node.spool._batches == {}

    run(tmp_path, test)


def test_a_batch_that_cannot_be_sent_waits_without_a_busy_loop(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        node.network.is_good = False
        node.spool.link_changed(is_up=True)
        node.spool.add_batch(Urgency.P1, b"high")
        calls = node._ids
        for _ in range(50):
            await asyncio.sleep(0)
        assert node._ids - calls < 5
        node.network.is_good = True
        await until(lambda: node.network.batches == [("up/tel/hi", b"high")])

    run(tmp_path, test)


def test_what_is_dropped_leaves_nothing_behind(tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        for number in range(200):
            node.spool.add_batch(Urgency.P2, b"x" * 1000)
            node.spool.raise_event("T", "R", "y" * 500 + str(number))
        await node.settle()
        assert node.spool.core.bytes <= 64 * 1024
        assert len(node.spool._batches) * 1000 <= 8192
        assert node.spool.core.dropped[Urgency.P1] > 0
        held = node.disk.database.stream_start(Urgency.P1)
        assert held.first == node.spool.core.streams[Urgency.P1].first

    run(tmp_path, test, Limits(64 * 1024, 8192))


def test_a_disk_that_takes_nothing_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.agents.spool.AGAIN_S", 0.05)

    async def test(node: Node) -> None:
        connection = node.disk.database._connection
        connection.execute("PRAGMA query_only = 1")
        node.spool.link_changed(is_up=True)
        node.spool.raise_event("T", "R", "1")
        await until(lambda: bool(node.disk.problem))
        assert node.disk.pressure()
        assert node.network.in_flight == []  # never sent before it is on disk
        connection.execute("PRAGMA query_only = 0")
        await until(lambda: bool(node.network.in_flight))
        assert node.disk.problem == ""

    run(tmp_path, test)
