"""The gateway's end of a worker's socket, with workers that break the protocol in every way there is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import pytest

from shoal.agents.inference.frames import Buffer, Frame, FrameReader, FrameType, pack_header
from shoal.agents.inference.gateway.http.exchange import Exchange
from shoal.agents.inference.gateway.pool import Call
from shoal.agents.inference.gateway.worker_link import Loaded, WorkerLink


@dataclass
class Client:
    """Keeps what is sent to it."""

    sent: bytes = b""

    def send(self, parts: Sequence[Buffer], *, close: bool) -> None:
        self.sent += b"".join(bytes(part) for part in parts)


@dataclass
class Owner:
    """Keeps what the link tells."""

    ready: list[Loaded] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def worker_ready(self, loaded: Loaded) -> None:
        self.ready.append(loaded)

    def worker_refused(self, reason: str) -> None:
        self.refused.append(reason)

    def call_answered(self, call: Call, status: int) -> None:
        self.answered.append(status)

    def link_lost(self, reason: str) -> None:
        self.lost.append(reason)


@dataclass
class Talk:
    """A link, its owner, and the worker's end of the socket."""

    link: WorkerLink
    owner: Owner
    worker: socket.socket
    client: Client = field(default_factory=Client)

    def call(self) -> Call:
        """Hand over a call, as a pool does."""
        exchange = Exchange(self.client, "POST", "/", {})
        exchange.body.extend([b"in", b"put"])
        exchange.body_len = 5
        call = Call(exchange, b":operation: infer\n", None)
        self.link.dispatch(call)
        return call

    async def frames(self, count: int) -> list[Frame]:
        """What the worker gets."""
        reader, frames = FrameReader(), list[Frame]()
        while len(frames) < count:
            frames += reader.feed(await asyncio.get_running_loop().sock_recv(self.worker, 65536))
        return frames

    async def answers(self, *frames: bytes) -> None:
        """The worker says this, and the gateway has read it."""
        for frame in frames:
            await asyncio.get_running_loop().sock_sendall(self.worker, frame)
        for _ in range(5):
            await asyncio.sleep(0)


def frame(frame_type: int, frame_id: int, fields: bytes = b"", body: bytes = b"") -> bytes:
    return pack_header(frame_type, frame_id, len(fields), len(body)) + fields + body


def talk(scene: Callable[[Talk], Coroutine[None, None, None]]) -> None:
    """Play a scene over a real socket pair."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        owner = Owner()
        link = WorkerLink(owner, in_flight_max=4, body_len_max=1000)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        with theirs:
            await scene(Talk(link, owner, theirs))
        link.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_a_call_goes_out_and_its_answer_to_the_client() -> None:
    async def scene(on: Talk) -> None:
        on.call()
        (infer,) = await on.frames(1)
        assert (infer.type, infer.fields, bytes(infer.body)) == (FrameType.INFER, b":operation: infer\n", b"input")
        fields = b":status: 299\ncontent-type: text/plain\nconnection: close\ncontent-length: 9\n"
        await on.answers(frame(FrameType.RESULT, infer.id, fields, b"output"))
        head, _, body = on.client.sent.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 299 \r\ncontent-type: text/plain\r\ndate: ")
        assert head.endswith(b"content-length: 6")
        assert b"connection" not in head, "a worker doesn't decide on the connection"
        assert body == b"output"
        assert (on.owner.answered, on.link.in_flight) == ([299], 0)

    talk(scene)


def test_an_error_frame_is_an_error_for_the_client() -> None:
    async def scene(on: Talk) -> None:
        on.call()
        (infer,) = await on.frames(1)
        await on.answers(frame(FrameType.ERROR, infer.id, b":status: 500\n", b'not "now"'))
        assert on.client.sent.endswith(b'{"error":"not \\"now\\""}')
        assert on.owner.answered == [500]

    talk(scene)


def test_load_is_answered_with_ready_or_error() -> None:
    async def scene(on: Talk) -> None:
        on.link.load({"model": "m"}, b"{}")
        (load,) = await on.frames(1)
        assert (load.type, load.fields, bytes(load.body)) == (FrameType.LOAD, b"model: m\n", b"{}")
        await on.answers(frame(FrameType.READY, load.id, b"device: cuda:0\nreason: so\n", b"{}"))
        await on.answers(frame(FrameType.ERROR, load.id, b":status: 500\n", b"no"))
        assert on.owner.ready == [Loaded("cuda:0", "so", b"{}")]
        assert on.owner.refused == ["no"]

    talk(scene)


def test_counters_come_when_asked_for() -> None:
    async def scene(on: Talk) -> None:
        asked = on.link.ask_counters()
        assert on.link.ask_counters() is asked, "one question at a time"
        (stats,) = await on.frames(1)
        await on.answers(frame(FrameType.STATS, stats.id, body=b'{"requests":3,"new":1}'))
        assert asked.done()
        assert on.link.counters.requests == 3

    talk(scene)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (b"nonsense" * 8, "frame starts with 0x736e6f6e"),
        (frame(FrameType.RESULT, 99, b":status: 200\n"), "an answer to 99, which was not asked or has its answer"),
        (frame(FrameType.RESULT, 1), "an answer with :status ''"),
        (frame(FrameType.RESULT, 1, b":status: 1000\n"), "an answer with :status '1000'"),
        (frame(FrameType.RESULT, 1, b":status: 2e2\n"), "an answer with :status '2e2'"),
        (frame(FrameType.RESULT, 1, b":status: 101\n"), "an answer with :status '101'"),
        (frame(FrameType.RESULT, 1, b"no fields"), "fields don't end with a newline"),
        (
            frame(FrameType.RESULT, 1, b":status: 200\ncontent-type: a\rset-cookie: b\n"),
            "an answer header holds a carriage return",
        ),
        (frame(FrameType.RESULT, 1, b":status: 200\n", bytes(1001)), "a body of 1001 bytes, over 1000"),
        (frame(FrameType.INFER, 1), "a worker doesn't send frames of type 3"),
        (frame(FrameType.LOAD, 1), "a worker doesn't send frames of type 1"),
        (frame(FrameType.STATS, 1, body=b"[]"), "Expected `object`, got `array`"),
    ],
)
def test_nonsense_loses_the_worker(said: bytes, says: str) -> None:
    async def scene(on: Talk) -> None:
        call = on.call()
        await on.frames(1)
        await on.answers(said)
        assert len(on.owner.lost) == 1
        assert says in on.owner.lost[0]
        assert on.link.is_lost
        held = on.link.take_held()
        assert held == [call] or says.startswith(("an answer with", "fields", "an answer header"))

    talk(scene)


def test_a_closed_socket_tells_what_was_held() -> None:
    async def scene(on: Talk) -> None:
        calls = [on.call(), on.call()]
        on.worker.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert on.owner.lost == ["the worker closed its socket"] or "reset" in on.owner.lost[0]
        assert on.link.oldest is calls[0]
        assert on.link.take_held() == calls
        assert on.link.in_flight == 0

    talk(scene)


def test_a_draining_worker_takes_no_more() -> None:
    async def scene(on: Talk) -> None:
        on.link.drain()
        assert on.link.in_flight_max == 0
        (drain,) = await on.frames(1)
        assert drain.type == FrameType.DRAIN

    talk(scene)
