"""The wire on the embedded broker and on a real Mosquitto: the same tests for both (design §5).

What differs between the two is no part of Shoal's protocol; `docs/wire.md` says what that is.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shoal.descriptions.errors import TransportError
from shoal.telemetry.broker_process import BrokerProcess, EmbeddedBroker, Mosquitto, find_mosquitto
from shoal.telemetry.credentials import CONTROL_PLANE, BrokerCredentials
from shoal.telemetry.link import Link, LinkOptions, LinkState, Message, Presence, Protocol, Publication

pytestmark = pytest.mark.system

DEADLINE_S = 20.0
NODES = tuple(f"node-{number}" for number in range(60))
_unused = itertools.count()


@pytest.fixture(scope="module", params=["embedded", "mosquitto"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for the module; each test takes a node that no other test uses."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    credentials = BrokerCredentials.create("test")
    if request.param == "embedded":
        broker: BrokerProcess = EmbeddedBroker(folder, credentials)
    else:
        if find_mosquitto() is None:
            pytest.skip("missing server: mosquitto")
        broker = Mosquitto(folder, credentials, usernames={CONTROL_PLANE, *NODES})
    with broker:
        yield broker


@pytest.fixture
def uid() -> str:
    return NODES[next(_unused) % len(NODES)]


def run(test: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test

    asyncio.run(bounded())


def options(
    broker: BrokerProcess,
    username: str,
    *filters: str,
    qos: int = 1,
    client_id: str = "",
    clean_session: bool = True,
    presence: Callable[[str], Presence] | None = None,
    backoff_base_s: float = 0.05,
) -> LinkOptions:
    return LinkOptions(
        broker.url,
        client_id or username,
        username,
        broker.password(username),
        subscriptions=tuple((topic_filter, qos) for topic_filter in filters),
        clean_session=clean_session,
        presence=presence,
        backoff_base_s=backoff_base_s,
    )


@asynccontextmanager
async def connected(options_: LinkOptions) -> AsyncIterator[Link]:
    async with Link(options_) as link:
        await link.wait_for(LinkState.CONNECTED)
        yield link


async def take(link: Link) -> Message:
    message = await link.receive()
    assert message is not None
    message.ack()
    return message


def up(uid: str, channel: str) -> str:
    return f"shoal/1/test/{uid}/up/{channel}"


def down(uid: str, channel: str) -> str:
    return f"shoal/1/test/{uid}/down/{channel}"


def test_qos_1_is_acknowledged_and_arrives_in_order(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with (
            connected(options(shared, CONTROL_PLANE, up(uid, "#"))) as control,
            connected(options(shared, uid)) as node,
        ):
            sent = [node.publish(up(uid, "ev/a"), b"%d" % number, qos=1) for number in range(100)]
            arrived = [(await take(control)).payload for _ in sent]
            await asyncio.gather(*sent)
            assert arrived == [b"%d" % number for number in range(100)]
            assert node.counters.acknowledged == 100

    run(scenario())


def test_a_publication_keeps_the_lower_qos(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with (
            connected(options(shared, CONTROL_PLANE, up(uid, "#"))) as control,
            connected(options(shared, CONTROL_PLANE, up(uid, "ev/#"), qos=0, client_id="control-plane.zero")) as zero,
            connected(options(shared, uid)) as node,
        ):
            node.publish(up(uid, "tel/lo"), b"qos 0")
            assert (await take(control)).qos == 0
            await node.publish(up(uid, "ev/a"), b"qos 1", qos=1)
            assert (await take(control)).qos == 1
            assert (await take(zero)).qos == 0

    run(scenario())


def test_retained_reaches_who_subscribes_later_and_an_empty_payload_clears_it(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with connected(options(shared, CONTROL_PLANE)) as control:
            await control.publish(down(uid, "desired"), b"one", qos=1, retain=True)
            await control.publish(down(uid, "desired"), b"two", qos=1, retain=True)
            async with connected(options(shared, uid, down(uid, "#"))) as node:
                first = await take(node)
                assert (first.payload, first.retain) == (b"two", True)
                await control.publish(down(uid, "desired"), b"three", qos=1, retain=True)
                live = await take(node)
                assert (live.payload, live.retain) == (b"three", False)
            await control.publish(down(uid, "desired"), b"", qos=1, retain=True)
            async with connected(options(shared, uid, down(uid, "#"))) as node:
                await control.publish(down(uid, "cmd"), b"after", qos=1)
                assert (await take(node)).payload == b"after"

    run(scenario())


def test_nobody_is_sent_the_retained_messages_of_others(shared: BrokerProcess, uid: str) -> None:
    """amqtt sends a connecting client what anybody's filter matches."""

    async def scenario() -> None:
        async with connected(options(shared, CONTROL_PLANE, "shoal/1/test/+/up/#")) as control:
            async with connected(options(shared, uid)) as node:
                await node.publish(up(uid, "state"), b"secret", qos=1, retain=True)
            spy = NODES[-1]
            for clean in (True, False, False):
                async with connected(options(shared, spy, down(spy, "#"), clean_session=clean)) as link:
                    await control.publish(down(spy, "cmd"), b"for the spy", qos=1)
                    assert (await take(link)).payload == b"for the spy"
                    assert link.counters.received == 1

    run(scenario())


def presence(uid: str) -> Callable[[str], Presence]:
    def with_session(session: str) -> Presence:
        state = up(uid, "state")
        return Presence(
            will=Publication(state, b"gone " + session.encode(), qos=1, retain=True),
            birth=Publication(state, b"here " + session.encode(), qos=1, retain=True),
        )

    return with_session


def test_birth_after_connect_and_will_after_a_crash(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with connected(options(shared, CONTROL_PLANE, up(uid, "#"))) as control:
            node = Link(options(shared, uid, presence=presence(uid)))
            await node.__aenter__()
            await node.wait_for(LinkState.CONNECTED)
            session = node.session_id
            assert (await take(control)).payload == f"here {session}".encode()
            await node.__aexit__(RuntimeError, RuntimeError("crash"), None)
            assert (await take(control)).payload == f"gone {session}".encode()
            async with connected(options(shared, CONTROL_PLANE, up(uid, "#"), client_id="control-plane.late")) as late:
                message = await take(late)
                assert (message.payload, message.retain) == (f"gone {session}".encode(), True)

    run(scenario())


def test_no_will_after_a_clean_end(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with connected(options(shared, CONTROL_PLANE, up(uid, "#"))) as control:
            async with connected(options(shared, uid, presence=presence(uid))):
                assert (await take(control)).payload.startswith(b"here")
            async with connected(options(shared, uid)) as node:
                await node.publish(up(uid, "ev/a"), b"next", qos=1)
                assert (await take(control)).payload == b"next"

    run(scenario())


@pytest.mark.parametrize("clean_session", [True, False], ids=["clean", "kept"])
def test_take_over_ends_the_earlier_connection(shared: BrokerProcess, uid: str, clean_session: bool) -> None:
    """The will of the first may come (of a kept session, Mosquitto sends none) but never after the second's birth."""

    async def scenario() -> None:
        mine = options(
            shared, uid, down(uid, "#"), clean_session=clean_session, backoff_base_s=60.0, presence=presence(uid)
        )
        listening = options(shared, CONTROL_PLANE, up(uid, "#"))
        async with connected(listening) as control, connected(mine) as first, connected(mine) as second:
            await first.wait_for(LinkState.DISCONNECTED)
            await second.publish(up(uid, "ev/a"), b"end", qos=1)
            told = [(await take(control)).payload.decode()]
            while told[-1] != "end":
                told.append((await take(control)).payload.decode())
            wills = [f"gone {first.session_id}"] * (len(told) == 4)
            assert told == [f"here {first.session_id}", *wills, f"here {second.session_id}", "end"]
            await control.publish(down(uid, "cmd"), b"to the second", qos=1)
            assert (await take(second)).payload == b"to the second"

    run(scenario())


def test_a_kept_session_gets_what_came_while_it_was_away(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        mine = options(shared, uid, down(uid, "#"), clean_session=False)
        async with connected(options(shared, CONTROL_PLANE)) as control:
            async with connected(mine):
                pass
            await control.publish(down(uid, "cmd"), b"meanwhile", qos=1)
            await control.publish(down(uid, "lease"), b"too old", qos=0)
            async with connected(mine) as node:
                assert (await take(node)).payload == b"meanwhile"
                await control.publish(down(uid, "cmd"), b"now", qos=1)
                assert (await take(node)).payload == b"now"

    run(scenario())


def test_what_was_not_acknowledged_comes_again(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        mine = options(shared, uid, down(uid, "#"), clean_session=False)
        async with connected(options(shared, CONTROL_PLANE)) as control:
            async with connected(mine) as node:
                await control.publish(down(uid, "cmd"), b"acknowledged", qos=1)
                await take(node)
                await control.publish(down(uid, "cmd"), b"not acknowledged", qos=1)
                assert (await node.receive()) is not None
                # The PUBACK of the first is on its way before this answer is.
                await node.publish(up(uid, "ev/a"), b"sync", qos=1)
            async with connected(mine) as node:
                again = await take(node)
                assert (again.payload, again.dup) == (b"not acknowledged", True)
                await control.publish(down(uid, "cmd"), b"end", qos=1)
                assert (await take(node)).payload == b"end"

    run(scenario())


def test_a_late_acknowledgement_counts(shared: BrokerProcess, uid: str) -> None:
    """amqtt forgets a message after five seconds; here messages are acknowledged in bulk, after the commit."""

    async def scenario() -> None:
        mine = options(shared, uid, down(uid, "#"), clean_session=False)
        async with connected(options(shared, CONTROL_PLANE)) as control, connected(mine) as node:
            await asyncio.gather(*(control.publish(down(uid, "cmd"), b"%d" % n, qos=1) for n in range(15)))
            messages = [await node.receive() for _ in range(15)]
            for message in messages:
                assert message is not None
                message.ack()
                message.ack()
            await control.publish(down(uid, "cmd"), b"end", qos=1)
            assert (await take(node)).payload == b"end"
            assert node.counters.acks_sent == 16

    run(scenario())


def test_wildcards(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with (
            connected(options(shared, CONTROL_PLANE, "shoal/1/test/+/up/hb")) as control,
            connected(options(shared, uid, down(uid, "#"), "shoal/1/test/_/#")) as node,
        ):
            node.publish(up(uid, "hb/deeper"), b"not matched")
            node.publish(up(uid, "hb"), b"beat")
            assert (await take(control)).payload == b"beat"
            for topic in ("shoal/1/test/_/spread", "shoal/1/test/_/routes/digits", down(uid, "desired")):
                await control.publish(topic, topic.encode(), qos=1)
                assert (await take(node)).payload == topic.encode()

    run(scenario())


def test_subscribe_and_unsubscribe_while_connected(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        routes = "shoal/1/test/_/routes/mine"
        async with connected(options(shared, CONTROL_PLANE)) as control, connected(options(shared, uid)) as node:
            await node.subscribe(routes)
            await control.publish(routes, b"one", qos=1)
            assert (await take(node)).payload == b"one"
            await node.unsubscribe(routes)
            await node.subscribe(down(uid, "#"))
            await control.publish(routes, b"two", qos=1)
            await control.publish(down(uid, "cmd"), b"three", qos=1)
            assert (await take(node)).payload == b"three"

    run(scenario())


def test_the_control_plane_hears_its_own_canary(shared: BrokerProcess) -> None:
    async def scenario() -> None:
        canary = "shoal/1/test/_/canary"
        async with connected(options(shared, CONTROL_PLANE, canary)) as control:
            await control.publish(canary, b"tweet", qos=1)
            assert (await take(control)).payload == b"tweet"

    run(scenario())


@pytest.mark.parametrize(
    ("username", "password_of", "client_id"),
    [
        ("node-0", "node-1", "node-0"),
        ("nobody-knows", "nobody-knows-either", "nobody-knows"),
        (None, None, "anonymous"),
        ("control-plane", "node-0", "control-plane"),
    ],
    ids=["another node's password", "unknown", "anonymous", "a node as control plane"],
)
def test_wrong_logins_are_refused(
    shared: BrokerProcess, username: str | None, password_of: str | None, client_id: str
) -> None:
    async def scenario() -> None:
        password = None if password_of is None else shared.credentials.password(password_of)
        mine = LinkOptions(shared.url, client_id, username, password, backoff_base_s=30.0)
        async with Link(mine) as link:
            await link.wait_for(LinkState.CONNECTING)
            await link.wait_for(LinkState.DISCONNECTED)
            assert "refused" in link.last_error
            assert link.counters.connect_failures == 1
            with pytest.raises(TransportError, match="not connected"):
                link.publish("shoal/1/test/x/up/hb", b"")

    run(scenario())


def test_an_oversized_packet_ends_only_its_own_connection(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with connected(options(shared, CONTROL_PLANE, up(uid, "#"))) as control:
            attacker = await asyncio.to_thread(raw_connect, shared, uid)
            with attacker:
                topic = up(uid, "ev/a").encode()
                body = len(topic).to_bytes(2, "big") + topic
                # PUBLISH, QoS 0, declaring 200 MiB
                attacker.sendall(b"\x30\x80\x80\x80\x64" + body)
                assert await asyncio.to_thread(is_closed, attacker)
            async with connected(options(shared, uid)) as node:
                await node.publish(up(uid, "ev/a"), b"x" * 256 * 1024, qos=1)
                assert len((await take(control)).payload) == 256 * 1024

    run(scenario())


def test_the_will_is_published_when_the_keepalive_runs_out(shared: BrokerProcess, uid: str) -> None:
    async def scenario() -> None:
        async with connected(options(shared, CONTROL_PLANE, up(uid, "#"))) as control:
            silent = await asyncio.to_thread(raw_connect, shared, uid, keepalive_s=1, will=up(uid, "state"))
            with silent:
                assert (await take(control)).payload == b"will"

    run(scenario())


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def raw_connect(broker: BrokerProcess, username: str, *, keepalive_s: int = 60, will: str = "") -> socket.socket:
    """A client that does only what the test makes it do; connected."""
    sock = socket.create_connection(("127.0.0.1", broker.port), 10.0)
    words = [username.encode(), *([will.encode(), b"will"] if will else []), username.encode()]
    words.append(broker.password(username).encode())
    flags = 0xC2 | (0x0C if will else 0)
    body = b"\x00\x04MQTT\x04" + bytes((flags,)) + keepalive_s.to_bytes(2, "big")
    body += b"".join(len(word).to_bytes(2, "big") + word for word in words)
    length = bytes((len(body),)) if len(body) < 128 else bytes((len(body) % 128 | 0x80, len(body) // 128))
    sock.sendall(b"\x10" + length + body)
    assert sock.recv(4) == b"\x20\x02\x00\x00"
    return sock


@pytest.mark.parametrize("broker", ["embedded_broker", "mosquitto"], indirect=True)
def test_everything_comes_back_after_a_broker_was_killed(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        node_uid = "returning"
        mine = options(broker, node_uid, down(node_uid, "#"), presence=presence(node_uid))
        async with (
            connected(options(broker, CONTROL_PLANE, "shoal/1/test/+/up/#")) as control,
            connected(mine) as node,
        ):
            before = node.session_id
            assert (await take(control)).payload == f"here {before}".encode()
            await asyncio.to_thread(broker.kill)
            await asyncio.gather(node.wait_for(LinkState.DISCONNECTED), control.wait_for(LinkState.DISCONNECTED))
            with pytest.raises(TransportError):
                node.publish(up(node_uid, "ev/a"), b"lost", qos=1)
            await asyncio.to_thread(broker.start)
            await asyncio.gather(node.wait_for(LinkState.CONNECTED), control.wait_for(LinkState.CONNECTED))
            assert node.session_id != before
            message = await take(control)
            assert message.payload == f"here {node.session_id}".encode()
            await control.publish(down(node_uid, "cmd"), b"again", qos=1)
            assert (await take(node)).payload == b"again"

    run(scenario())


def test_mqtt_5_adds_refusals_and_expiry_where_the_broker_knows_it(mosquitto: Mosquitto) -> None:
    """Mosquitto only: amqtt speaks 3.1.1, and nothing in Shoal needs more."""

    async def scenario() -> None:
        password = mosquitto.password("five")
        filters = ((down("five", "#"), 1),)
        mine = LinkOptions(
            mosquitto.url, "five", "five", password, subscriptions=filters, protocol=Protocol.V5, clean_session=False
        )
        async with connected(options(mosquitto, CONTROL_PLANE, up("five", "#"))) as control:
            async with connected(mine) as node:
                await node.publish(up("five", "ev/a"), b"v5", qos=1, expiry_s=60)
                assert (await take(control)).payload == b"v5"
                with pytest.raises(TransportError, match="Not authorized"):
                    await node.publish(up("other", "ev/a"), b"", qos=1)
            await control.publish(down("five", "cmd"), b"meanwhile", qos=1)
            async with connected(mine) as node:
                assert (await take(node)).payload == b"meanwhile"

    run(scenario())
