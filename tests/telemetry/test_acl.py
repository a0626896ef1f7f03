"""Every identity × topic × direction: as a decision, on the embedded broker and on Mosquitto."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.telemetry.acl import Acl
from shoal.telemetry.broker_process import BrokerProcess, EmbeddedBroker, Mosquitto, find_mosquitto
from shoal.telemetry.credentials import CONTROL_PLANE, BrokerCredentials
from shoal.telemetry.link import Link, LinkOptions, LinkState, Presence, Publication

ROOT = "shoal/1/test"
WRITES = [
    ("n1", f"{ROOT}/n1/up/hb", True),
    ("n1", f"{ROOT}/n1/up/state", True),
    ("n1", f"{ROOT}/n1/up/ev/s1", True),
    ("n1", f"{ROOT}/n1/up/tel/lo", True),
    ("n1", f"{ROOT}/n1/down/desired", False),
    ("n1", f"{ROOT}/n2/up/state", False),
    ("n1", f"{ROOT}/n2/down/cmd", False),
    ("n1", f"{ROOT}/_/state", False),
    ("n1", f"{ROOT}/_/canary", False),
    ("n1", f"{ROOT}/_/routes/digits", False),
    ("n1", "shoal/1/other/n1/up/hb", False),
    ("n1", "shoal/2/test/n1/up/hb", False),
    ("n1", "elsewhere", False),
    (CONTROL_PLANE, f"{ROOT}/n1/down/desired", True),
    (CONTROL_PLANE, f"{ROOT}/n1/down/cmd", True),
    (CONTROL_PLANE, f"{ROOT}/_/state", True),
    (CONTROL_PLANE, f"{ROOT}/_/spread", True),
    (CONTROL_PLANE, f"{ROOT}/_/canary", True),
    (CONTROL_PLANE, f"{ROOT}/n1/up/reported", False),
    (CONTROL_PLANE, "shoal/1/other/n1/down/desired", False),
]
READS = [
    ("n1", f"{ROOT}/n1/down/#", True),
    ("n1", f"{ROOT}/n1/down/desired", True),
    ("n1", f"{ROOT}/_/#", True),
    ("n1", f"{ROOT}/_/routes/+", True),
    ("n1", f"{ROOT}/n1/up/#", False),
    ("n1", f"{ROOT}/n2/down/#", False),
    ("n1", f"{ROOT}/+/down/#", False),
    ("n1", f"{ROOT}/#", False),
    ("n1", f"{ROOT}/n1/#", False),
    ("n1", f"{ROOT}/n1/+/desired", False),
    ("n1", "#", False),
    ("n1", "shoal/#", False),
    ("n1", "shoal/1/+/_/state", False),
    ("n1", "shoal/1/other/n1/down/#", False),
    ("n1", "$SYS/#", False),
    ("n1", "+/+/+/+/+", False),
    (CONTROL_PLANE, f"{ROOT}/+/up/#", True),
    (CONTROL_PLANE, f"{ROOT}/n1/up/tel/hi", True),
    (CONTROL_PLANE, f"{ROOT}/_/canary", True),
    (CONTROL_PLANE, f"{ROOT}/n1/down/desired", False),
    (CONTROL_PLANE, f"{ROOT}/#", False),
    (CONTROL_PLANE, "#", False),
    (CONTROL_PLANE, "shoal/1/other/+/up/#", False),
]
NODES = ("n1", "n2")
DEADLINE_S = 60.0


@pytest.mark.parametrize(("username", "topic", "allowed"), WRITES)
def test_who_may_write(username: str, topic: str, allowed: bool) -> None:
    assert Acl("test").may_write(username, topic) is allowed


@pytest.mark.parametrize(("username", "topic_filter", "allowed"), READS)
def test_who_may_read(username: str, topic_filter: str, allowed: bool) -> None:
    assert Acl("test").may_read(username, topic_filter) is allowed


levels = st.sampled_from(["shoal", "1", "test", "n1", "n2", "up", "down", "_", "+", "#", "", "hb", "$SYS"])


@given(topic=st.lists(levels, min_size=1, max_size=8).map("/".join))
def test_a_node_never_reaches_beyond_its_own(topic: str) -> None:
    acl = Acl("test")
    if acl.may_write("n1", topic):
        assert topic.startswith(f"{ROOT}/n1/up/")
        assert not set("+#") & set(topic)
    if acl.may_read("n1", topic):
        assert topic.startswith((f"{ROOT}/n1/down/", f"{ROOT}/_/"))


@pytest.fixture(scope="module", params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    credentials = BrokerCredentials.create("test")
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("missing server: mosquitto")
    process: BrokerProcess = (
        EmbeddedBroker(folder, credentials)
        if request.param == "embedded"
        else Mosquitto(folder, credentials, usernames={CONTROL_PLANE, *NODES})
    )
    with process:
        yield process


def login(broker: BrokerProcess, username: str, suffix: str = "", **more: object) -> LinkOptions:
    password = broker.credentials.password(username)
    return LinkOptions(broker.url, username + suffix, username, password, backoff_base_s=0.05, **more)  # type: ignore[arg-type]


@pytest.mark.system
def test_brokers_let_through_what_is_allowed_and_nothing_else(broker: BrokerProcess) -> None:
    """Publishes to every topic of the table as everybody; what nobody may read is looked for as retained later."""

    async def scenario() -> None:
        readers = {CONTROL_PLANE: (f"{ROOT}/+/up/#", f"{ROOT}/_/#")} | {n: (f"{ROOT}/{n}/down/#",) for n in NODES}
        received: set[tuple[str, bytes]] = set()
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            links = [Link(login(broker, u, ".r", subscriptions=tuple((f, 1) for f in fs))) for u, fs in readers.items()]
            for link in links:
                await link.__aenter__()
                await link.wait_for(LinkState.CONNECTED)
            for link in links:
                tasks.create_task(collect(link, received))
            for username in (CONTROL_PLANE, "n1"):
                await publish_all(broker, username)
            for link in links:
                await link.wait_for(LinkState.CONNECTED)
                await link.__aexit__(None, None, None)
        expected = {(t, u.encode()) for u, t, allowed in WRITES if allowed}
        assert received == expected

    asyncio.run(scenario())


async def collect(link: Link, received: set[tuple[str, bytes]]) -> None:
    async for message in link:
        message.ack()
        received.add((message.topic, message.payload))


async def publish_all(broker: BrokerProcess, username: str) -> None:
    """In MQTT 3.1.1 a denied publication is acknowledged too; when the last one is, the broker has seen them all."""
    async with Link(login(broker, username)) as link:
        await link.wait_for(LinkState.CONNECTED)
        for writer, topic, _ in WRITES:
            if writer == username:
                await link.publish(topic, username.encode(), qos=1)
        last = f"{ROOT}/_/canary" if username == CONTROL_PLANE else f"{ROOT}/{username}/up/hb"
        await link.publish(last, username.encode(), qos=1)


@pytest.mark.system
@pytest.mark.parametrize(("username", "topic_filter", "allowed"), READS)
def test_brokers_let_nobody_read_more(broker: BrokerProcess, username: str, topic_filter: str, allowed: bool) -> None:
    """The filter alone: what it delivers of everything that is published must be what the user may read."""

    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE_S):
            options = login(broker, username, ".reader", subscriptions=((topic_filter, 1),))
            async with (
                Link(options) as link,
                Link(login(broker, CONTROL_PLANE)) as control,
                Link(login(broker, "n2")) as n2,
            ):
                for each in (link, control, n2):
                    await each.wait_for(LinkState.CONNECTED)
                await n2.publish(f"{ROOT}/n2/up/state", b"x", qos=1)
                for topic in (f"{ROOT}/n2/down/desired", f"{ROOT}/n1/down/desired", f"{ROOT}/_/canary"):
                    await control.publish(topic, b"x", qos=1)
                # Something that this user may read comes last, so that what was forbidden would have come before.
                sentinel = f"{ROOT}/_/end"
                await link.subscribe(sentinel)
                await control.publish(sentinel, b"end", qos=1)
                seen: set[str] = set()
                while (message := await link.receive()) is not None and message.topic != sentinel:
                    message.ack()
                    seen.add(message.topic)
        assert all(Acl("test").may_read(username, topic) for topic in seen)
        if allowed and topic_filter in (f"{ROOT}/n1/down/#", f"{ROOT}/_/#", f"{ROOT}/+/up/#"):
            assert seen

    asyncio.run(scenario())


@pytest.mark.system
def test_a_will_on_a_foreign_topic_is_never_published(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        def presence(session: str) -> Presence:
            return Presence(will=Publication(f"{ROOT}/n2/up/state", b"forged", qos=1, retain=True))

        listening = login(broker, CONTROL_PLANE, subscriptions=((f"{ROOT}/+/up/#", 1),))
        async with asyncio.timeout(DEADLINE_S), Link(listening) as control, Link(login(broker, "n2")) as n2:
            await control.wait_for(LinkState.CONNECTED)
            await n2.wait_for(LinkState.CONNECTED)
            attacker = Link(login(broker, "n1", presence=presence))
            await attacker.__aenter__()
            await attacker.wait_for(LinkState.CONNECTING)
            while attacker.counters.connect_failures == 0 and attacker.state is not LinkState.CONNECTED:
                await asyncio.sleep(0.005)
            await attacker.__aexit__(RuntimeError, RuntimeError("crash"), None)
            await n2.publish(f"{ROOT}/n2/up/hb", b"true", qos=1)
            message = await control.receive()
            assert message is not None
            assert message.payload == b"true"

    asyncio.run(scenario())


@pytest.mark.system
def test_the_embedded_broker_ties_client_ids_to_users(tmp_path: Path) -> None:
    """Otherwise any node could push out any other. On Mosquitto `use_username_as_clientid` does this."""

    async def scenario(broker: EmbeddedBroker) -> None:
        victim_options = LinkOptions(broker.url, "n2", "n2", broker.password("n2"))
        hijack_options = LinkOptions(broker.url, "n2", "n1", broker.password("n1"), backoff_base_s=30.0)
        forged_options = LinkOptions(broker.url, "n2", "n2", "wrong", backoff_base_s=30.0)
        async with asyncio.timeout(DEADLINE_S), Link(victim_options) as victim:
            await victim.wait_for(LinkState.CONNECTED)
            for options in (hijack_options, forged_options):
                async with Link(options) as attacker:
                    await attacker.wait_for(LinkState.CONNECTING)
                    await attacker.wait_for(LinkState.DISCONNECTED)
                    assert "refused" in attacker.last_error
            await victim.publish(f"{ROOT}/n2/up/hb", b"still here", qos=1)
            assert victim.counters.connections_lost == 0

    with EmbeddedBroker(tmp_path, BrokerCredentials.create("test")) as broker:
        asyncio.run(scenario(broker))
