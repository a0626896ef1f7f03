"""The link against a broker that does exactly what a test tells it: bytes at the door, nothing of ours replaced."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions.errors import DescriptionError, ProtocolError, TransportError
from shoal.telemetry.link import Link, LinkOptions, LinkState, Presence, Priority, Protocol, Publication
from shoal.telemetry.link_options import PAYLOAD_BYTES_MAX

DEADLINE_S = 10.0
CONNACK = b"\x20\x02\x00\x00"
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The broker's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> tuple[int, bytes]:
        """Type and body of the next packet; type 0 at the end of the connection."""
        try:
            first = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    return first, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""

    async def accept(self) -> bytes:
        """Answer CONNECT; the CONNECT's body."""
        kind, body = await self.read()
        assert kind == 0x10
        self.writer.write(CONNACK)
        return body

    def send(self, packet: bytes) -> None:
        self.writer.write(packet)

    async def until_closed(self) -> list[int]:
        """Packet types that came before the end."""
        kinds = []
        while (packet := await self.read())[0]:
            kinds.append(packet[0])
        return kinds


def publish_packet(topic: bytes, payload: bytes, mid: int = 0) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if mid else b"") + payload
    length, encoded = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes((digit | (0x80 if length else 0),))
        if not length:
            return bytes((0x32 if mid else 0x30,)) + encoded + body


@asynccontextmanager
async def broker(*scripts: Script) -> AsyncIterator[str]:
    """Plays one script per connection, the last one for all further; yields the URL."""
    failures: list[BaseException] = []
    plays = list(scripts)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = plays.pop(0) if len(plays) > 1 else plays[0]
        try:
            await script(Peer(reader, writer))
        except AssertionError as failure:
            failures.append(failure)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if failures:
        raise failures[0]


def run(test: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test

    asyncio.run(bounded())


def quick(url: str, **more: object) -> LinkOptions:
    return LinkOptions(url, "n1", backoff_base_s=0.01, backoff_cap_s=0.02, **more)  # type: ignore[arg-type]


async def silent(peer: Peer) -> None:
    await peer.accept()
    await peer.until_closed()


def test_publications_fail_before_the_connection_and_when_it_is_lost() -> None:
    async def drop_at_first_publish(peer: Peer) -> None:
        await peer.accept()
        assert (await peer.read())[0] == 0x32

    async def scenario() -> None:
        async with broker(drop_at_first_publish, silent) as url:
            link = Link(quick(url))
            with pytest.raises(TransportError, match="not connected"):
                link.publish("t", b"")
            async with link:
                await link.wait_for(LinkState.CONNECTED)
                with pytest.raises(TransportError, match="connection lost"):
                    await link.publish("t", b"", qos=1)
                await link.wait_for(LinkState.CONNECTED)
            assert (link.counters.publish_refused, link.counters.lost_in_flight, link.counters.connects) == (1, 1, 2)

    run(scenario())


def test_in_flight_is_bounded_and_control_overtakes_telemetry() -> None:
    received: list[tuple[bytes, bytes]] = []

    async def acknowledge_when_twenty_came(peer: Peer) -> None:
        await peer.accept()
        received.extend([split(await peer.read()) for _ in range(20)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await peer.read()
        for _, mid in received:
            peer.send(b"\x40\x02" + mid)
        while (packet := await peer.read())[0] == 0x32:
            received.append(split(packet))
            peer.send(b"\x40\x02" + received[-1][1])

    def split(packet: tuple[int, bytes]) -> tuple[bytes, bytes]:
        length = int.from_bytes(packet[1][:2], "big")
        return packet[1][2 : 2 + length], packet[1][2 + length : 4 + length]

    async def scenario() -> None:
        async with broker(acknowledge_when_twenty_came) as url, Link(quick(url)) as link:
            await link.wait_for(LinkState.CONNECTED)
            sent = [link.publish("bulk", b"", qos=1, priority=Priority.HIGH) for _ in range(30)]
            await asyncio.sleep(0)
            sent += [link.publish("control", b"", qos=1) for _ in range(10)]
            await asyncio.gather(*sent)
            topics = [topic for topic, _ in received]
            # 16 places are the most that telemetry gets; the other 4 are control's.
            assert topics[:20].count(b"bulk") <= 16
            assert max(i for i, topic in enumerate(topics) if topic == b"control") < 30
            assert len(topics) == 40

    run(scenario())


def test_without_pubacks_the_link_reconnects() -> None:
    now_s = [0.0]

    async def scenario() -> None:
        async with broker(silent) as url:
            options = quick(url, puback_timeout_s=30.0, housekeeping_s=0.01)
            async with Link(options, clock=lambda: now_s[0]) as link:
                await link.wait_for(LinkState.CONNECTED)
                waiting = link.publish("t", b"", qos=1)
                await asyncio.sleep(0)
                now_s[0] = 31.0
                with pytest.raises(TransportError, match="no PUBACK for"):
                    await waiting

    run(scenario())


@pytest.mark.parametrize(
    "damage",
    [
        b"\x30\xff\xff\xff\xff\xff",
        b"\x30\x80\x80\x80\x64",
        b"\x30\x01\x00",
        b"\x30\x02\xff\xff",
        b"\x90\x00",
        b"\x40\x00",
        b"\x20\x00",
        b"\x00\x00",
        b"\xf0\x00",
    ],
    ids=["length", "200 MiB", "short", "topic past the end", "empty SUBACK", "empty PUBACK", "CONNACK", "0", "15"],
)
def test_malformed_packets_end_the_connection_and_nothing_else(damage: bytes) -> None:
    async def hostile(peer: Peer) -> None:
        await peer.accept()
        peer.send(damage)
        await peer.until_closed()

    async def healthy(peer: Peer) -> None:
        await peer.accept()
        peer.send(publish_packet(b"t", b"fine"))
        await peer.until_closed()

    async def scenario() -> None:
        async with broker(hostile, healthy) as url, Link(quick(url)) as link:
            message = await link.receive()
            assert message is not None
            assert message.payload == b"fine"
            assert link.counters.connections_lost == 1

    run(scenario())


@settings(max_examples=200, deadline=None)
@given(
    garbage=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4).map(b"".join), accepted=st.booleans()
)
def test_no_bytes_of_a_broker_stop_the_link(garbage: bytes, accepted: bool) -> None:
    async def hostile(peer: Peer) -> None:
        if accepted:
            await peer.accept()
        peer.send(garbage)
        peer.writer.write_eof()
        await peer.until_closed()

    async def healthy(peer: Peer) -> None:
        await peer.accept()
        peer.send(publish_packet(b"end", b"fine"))
        await peer.until_closed()

    async def scenario() -> None:
        async with broker(hostile, healthy) as url, Link(quick(url)) as link:
            while (message := await link.receive()) is not None and message.topic != "end":
                message.ack()
            assert message is not None

    run(scenario())


def test_a_full_receive_queue_disconnects_and_says_so() -> None:
    async def flood(peer: Peer) -> None:
        await peer.accept()
        await peer.read()
        for number in range(1, 20):
            peer.send(publish_packet(b"t", b"%d" % number, mid=number))
        await peer.until_closed()

    async def scenario() -> None:
        async with broker(flood, silent) as url, Link(quick(url, receive_control_max=8)) as link:
            await link.wait_for(LinkState.CONNECTED)
            link.publish("go", b"")
            await link.wait_for(LinkState.DISCONNECTED)
            assert link.last_error == "the receive queue is full"
            # No reconnect before the consumer has caught up, and nothing after the gap is delivered.
            payloads = []
            for _ in range(4):
                message = await link.receive()
                assert message is not None
                payloads.append(message.payload)
                message.ack()
            assert payloads == [b"1", b"2", b"3", b"4"]
            assert (link.counters.inbox_overflows, link.counters.acks_stale, link.counters.acks_sent) == (1, 4, 0)
            await link.wait_for(LinkState.CONNECTED)
            assert link.counters.connects == 2

    run(scenario())


def test_an_acknowledgement_is_sent_once_and_only_when_asked() -> None:
    acknowledged: list[bytes] = []

    async def one_message(peer: Peer) -> None:
        await peer.accept()
        peer.send(publish_packet(b"t", b"x", mid=77))
        while (packet := await peer.read())[0]:
            if packet[0] == 0x40:
                acknowledged.append(packet[1])

    async def scenario() -> None:
        async with broker(one_message) as url, Link(quick(url)) as link:
            message = await link.receive()
            assert message is not None
            link.publish("marker", b"")
            await asyncio.sleep(0)
            assert acknowledged == []
            message.ack()
            message.ack()
            while link.counters.acks_sent == 0 or not acknowledged:
                await asyncio.sleep(0.001)
            assert acknowledged == [(77).to_bytes(2, "big")]

    run(scenario())


def test_a_topic_that_is_not_utf_8_is_counted_and_acknowledged() -> None:
    async def bad_topic(peer: Peer) -> None:
        await peer.accept()
        peer.send(publish_packet(b"\xff\xfe", b"x", mid=5) + publish_packet(b"good", b"x", mid=6))
        kinds = [await peer.read()]
        assert kinds == [(0x40, b"\x00\x05")]
        await peer.until_closed()

    async def scenario() -> None:
        async with broker(bad_topic) as url, Link(quick(url)) as link:
            message = await link.receive()
            assert message is not None
            assert (message.topic, link.counters.malformed_topics) == ("good", 1)

    run(scenario())


def test_will_and_birth_carry_a_new_session_id_for_each_connection() -> None:
    connects: list[bytes] = []

    async def take_birth(peer: Peer) -> None:
        connects.append(await peer.accept())
        kind, body = await peer.read()
        assert kind == 0x33  # QoS 1, retained
        peer.send(b"\x40\x02" + body[7:9])
        if len(connects) == 2:
            await peer.until_closed()

    def presence(session: str) -> Presence:
        said = session.encode()
        return Presence(Publication("state", b"will " + said, 1, True), Publication("state", b"birth " + said, 1, True))

    async def scenario() -> None:
        async with broker(take_birth) as url:
            async with Link(quick(url, presence=presence), random=random.Random(7)) as link:
                while len(connects) < 2:
                    await asyncio.sleep(0.001)
                await link.wait_for(LinkState.CONNECTED)
                assert f"will {link.session_id}".encode() in connects[1]
            wills = [connect[connect.index(b"will ") :][5:21] for connect in connects]
            assert len(set(wills)) == 2

    run(scenario())


def test_states_are_told_in_order() -> None:
    async def scenario() -> None:
        states: list[LinkState] = []
        async with broker(silent) as url:
            link = Link(quick(url))
            link.on_state(states.append)
            async with link:
                await link.wait_for(LinkState.CONNECTED)
        assert states == [LinkState.CONNECTING, LinkState.CONNECTED, LinkState.DISCONNECTED]

    run(scenario())


def test_an_unreachable_broker_is_retried_with_a_bounded_delay() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def scenario() -> None:
        async with Link(quick(f"mqtt://127.0.0.1:{port}")) as link:
            while link.counters.connect_failures < 5:
                await asyncio.sleep(0.001)
            assert link.state is not LinkState.CONNECTED
            assert link.last_error

    run(scenario())


class Recording(random.Random):
    """Jitter that waits no time and remembers how long it might have been."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ceilings_s: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.ceilings_s.append(b)
        return 0.0


def test_a_reconnect_is_spread_as_the_control_plane_says() -> None:
    async def drop(peer: Peer) -> None:
        await peer.accept()

    async def scenario() -> None:
        jitter = Recording()
        async with broker(drop) as url:
            async with Link(LinkOptions(url, "n1"), random=jitter) as link:
                link.reconnect_spread_s = 45.0
                while len(jitter.ceilings_s) < 7:
                    await asyncio.sleep(0.001)
            assert jitter.ceilings_s[:7] == [45.0] * 6 + [60.0]
            link.reconnect_spread_s = 1e9
            assert link.reconnect_spread_s == 3600.0
            link.reconnect_spread_s = -1.0
            assert link.reconnect_spread_s == 0.0

    run(scenario())


def test_leaving_ends_the_consumer_and_frees_the_socket() -> None:
    async def scenario() -> None:
        kinds: list[int] = []

        async def record(peer: Peer) -> None:
            await peer.accept()
            kinds.extend(await peer.until_closed())

        async with broker(record) as url:
            async with Link(quick(url)) as link:
                await link.wait_for(LinkState.CONNECTED)
            assert [message async for message in link] == []
            while not kinds:
                await asyncio.sleep(0.001)
            assert kinds == [0xE0]
            with pytest.raises(TransportError):
                link.publish("t", b"")

    run(scenario())


def test_a_payload_over_the_cap_is_refused() -> None:
    async def scenario() -> None:
        async with broker(silent) as url, Link(quick(url)) as link:
            await link.wait_for(LinkState.CONNECTED)
            with pytest.raises(ProtocolError, match="over the limit"):
                link.publish("t", b"x" * (PAYLOAD_BYTES_MAX + 1))

    run(scenario())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", ("broker", 1883, False)),
        ("mqtts://broker", ("broker", 8883, True)),
        ("mqtt://[::1]:1999", ("::1", 1999, False)),
        ("mqtts://10.0.0.1:1/", ("10.0.0.1", 1, True)),
    ],
)
def test_broker_urls(url: str, expected: tuple[str, int, bool]) -> None:
    assert LinkOptions(url, "n1").address() == expected


@pytest.mark.parametrize(
    "url", ["", "broker:1883", "http://broker", "mqtt://", "mqtt://u:p@broker", "mqtt://b:99999", "mqtt://b/x"]
)
def test_unusable_broker_urls(url: str) -> None:
    with pytest.raises(DescriptionError, match="broker URL"):
        LinkOptions(url, "n1").address()


def test_mqtt_5_says_so_in_its_connect() -> None:
    bodies: list[bytes] = []

    async def accept_5(peer: Peer) -> None:
        bodies.append((await peer.read())[1])
        peer.send(b"\x20\x03\x00\x00\x00")
        await peer.until_closed()

    async def scenario() -> None:
        async with broker(accept_5) as url, Link(quick(url, protocol=Protocol.V5, clean_session=False)) as link:
            await link.wait_for(LinkState.CONNECTED)
            link.publish("t", b"x", expiry_s=30)
        assert bodies[0][6] == 5
        # Session expiry 3600 s, receive maximum 100
        assert b"\x11\x00\x00\x0e\x10" in bodies[0]
        assert b"\x21\x00\x64" in bodies[0]

    run(scenario())
