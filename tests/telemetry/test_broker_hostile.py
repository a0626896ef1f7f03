"""The embedded broker under hostile clients, and what it refuses to do at all."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from shoal.telemetry.broker import main
from shoal.telemetry.broker_embedded import CONNECTIONS_MAX, SUBSCRIPTIONS_MAX
from shoal.telemetry.broker_process import EmbeddedBroker
from shoal.telemetry.credentials import BrokerCredentials
from shoal.telemetry.link import Link, LinkOptions, LinkState

pytestmark = pytest.mark.system

DEADLINE_S = 60.0
CASES = 400


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker"), BrokerCredentials.create("test")) as running:
        yield running


def connect_packet(broker: EmbeddedBroker, username: str, client_id: str) -> bytes:
    words = (client_id, username, broker.password(username))
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + b"".join(len(w).to_bytes(2, "big") + w.encode() for w in words)
    return bytes((0x10, len(body))) + body


def send(broker: EmbeddedBroker, payload: bytes) -> None:
    """Send and go away; whatever the broker does about it."""
    with socket.create_connection(("127.0.0.1", broker.port), 10.0) as sock:
        try:
            sock.sendall(payload)
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(10.0)
            while sock.recv(4096):
                pass
        except (ConnectionError, BrokenPipeError):
            return  # refused while we were sending


def check_healthy(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        options = LinkOptions(
            broker.url, "healthy", "healthy", broker.password("healthy"), subscriptions=(("shoal/1/test/_/#", 1),)
        )
        control = LinkOptions(broker.url, "control-plane", "control-plane", broker.password(), backoff_base_s=0.1)
        async with asyncio.timeout(DEADLINE_S), Link(options) as link, Link(control) as sender:
            await link.wait_for(LinkState.CONNECTED)
            await sender.wait_for(LinkState.CONNECTED)
            await sender.publish("shoal/1/test/_/canary", b"alive", qos=1)
            message = await link.receive()
            assert message is not None
            assert message.payload == b"alive"

    asyncio.run(scenario())


def test_garbage_before_and_after_the_login_harms_nobody(broker: EmbeddedBroker) -> None:
    dice = random.Random(20261121)
    for number in range(CASES):
        garbage = dice.randbytes(dice.randrange(1, 80))
        if number % 2:
            # A proper login, then a packet type that a client may send, a length that lies, and noise.
            kind = dice.choice((0x10, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x82, 0xA2, 0xC0, 0xE0))
            login = connect_packet(broker, "fuzzer", f"fuzzer.{number % 7}")
            garbage = login + bytes((kind, dice.randrange(0, 100))) + garbage
        send(broker, garbage)
    check_healthy(broker)


def test_refused_connections_give_their_place_back(broker: EmbeddedBroker) -> None:
    wrong = connect_packet(broker, "fuzzer", "someone-else")
    for number in range(CONNECTIONS_MAX + 20):
        send(broker, wrong if number % 2 else b"\x10\x01\x00")
    check_healthy(broker)


def test_subscriptions_of_one_client_are_bounded(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        filters = tuple((f"shoal/1/test/greedy/down/{number}", 1) for number in range(SUBSCRIPTIONS_MAX + 5))
        options = LinkOptions(broker.url, "greedy", "greedy", broker.password("greedy"), subscriptions=filters)
        async with asyncio.timeout(DEADLINE_S), Link(options) as link:
            await link.wait_for(LinkState.CONNECTED)
            assert link.counters.subscriptions_refused == 5

    asyncio.run(scenario())


def test_a_client_that_does_not_read_is_cut_off_and_others_go_on(broker: EmbeddedBroker) -> None:
    async def scenario() -> None:
        lazy = socket.create_connection(("127.0.0.1", broker.port), 10.0)
        lazy.sendall(connect_packet(broker, "lazy", "lazy"))
        topic = b"shoal/1/test/_/#"
        body = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
        lazy.sendall(bytes((0x82, len(body))) + body)
        control = LinkOptions(broker.url, "control-plane", "control-plane", broker.password())
        async with asyncio.timeout(DEADLINE_S), Link(control) as sender:
            await sender.wait_for(LinkState.CONNECTED)
            for _ in range(1100):
                await sender.publish("shoal/1/test/_/canary", b"x" * 2000, qos=1)
        with lazy:
            # Everything that it was sent before, then the end of the connection.
            lazy.settimeout(DEADLINE_S)
            try:
                while await asyncio.to_thread(lazy.recv, 65536):
                    pass
            except ConnectionError:
                pass

    asyncio.run(scenario())
    check_healthy(broker)


def publish_packet(topic: bytes, payload: bytes, first_byte: int) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (b"\x00\x07" if first_byte & 6 else b"") + payload
    return bytes((first_byte, len(body) & 0x7F | 0x80, len(body) >> 7)) + body


def logged_in(broker: EmbeddedBroker, username: str, client_id: str = "") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", broker.port), DEADLINE_S)
    sock.sendall(connect_packet(broker, username, client_id or username))
    assert sock.recv(4) == b"\x20\x02\x00\x00"
    return sock


def test_qos_2_ends_the_connection(broker: EmbeddedBroker) -> None:
    with logged_in(broker, "two") as sock:
        sock.sendall(publish_packet(b"shoal/1/test/two/up/hb", b"x" * 200, 0x34))
        assert sock.recv(4) == b""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells the proportional set size")
def test_a_flood_is_slowed_down_instead_of_kept(broker: EmbeddedBroker) -> None:
    """Eight clients send 120 MB together; without reading being held back the broker grows by 100 MB."""
    before_bytes = largest_bytes = pss_bytes(broker.pid)
    packet = publish_packet(b"shoal/1/test/flood/up/tel/lo", b"x" * 15_000, 0x30)

    def flood(sock: socket.socket) -> None:
        with sock:
            for _ in range(1000):
                sock.sendall(packet)

    floods = [Thread(target=flood, args=(logged_in(broker, "flood", f"flood.{number}"),)) for number in range(8)]
    for thread in floods:
        thread.start()
    while any(thread.is_alive() for thread in floods):
        largest_bytes = max(largest_bytes, pss_bytes(broker.pid))
    assert largest_bytes - before_bytes < 20e6
    check_healthy(broker)


def pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_than_loopback_are_refused(
    tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    BrokerCredentials.create("test").save(tmp_path / "credentials.json")
    assert main(["--host", host, "--credentials-file", str(tmp_path / "credentials.json")]) == 4
    assert "this machine only" in capsys.readouterr().err


def test_without_credentials_it_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--credentials-file", str(tmp_path / "missing.json")]) == 1
    assert "missing.json" in capsys.readouterr().err
