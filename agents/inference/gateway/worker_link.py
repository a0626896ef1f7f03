"""The gateway's end of a worker's socket: calls out as INFER frames, answers back to their clients.

`worker_process.py` owns one; its pool dispatches to it. A worker answers in order, so the oldest call is the one it
works on: when the worker dies only that one has begun, the others can go elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

import msgspec

from ....descriptions.errors import ProtocolError
from ..frames import Frame, FrameReader, FrameType, pack_fields, pack_header, unpack_fields
from .http.exchange import JSON
from .pool import Call

HEAD_CACHE_MAX = 256
ANSWER_HEADERS = frozenset({"content-type", "content-encoding", "inference-header-content-length", "retry-after"})
"""A worker sets these and no others: it must not end a connection or a message of its own accord."""


class Loaded(msgspec.Struct, frozen=True):
    """What READY said."""

    device: str
    reason: str
    metadata: bytes


class WorkerCounters(msgspec.Struct, frozen=True):
    """What STATS said; see `worker/loop.py`."""

    requests: int = 0
    failures: int = 0
    elements: int = 0
    executions: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0


class LinkOwner(Protocol):
    """Who is told."""

    def worker_ready(self, loaded: Loaded) -> None:
        """The model is loaded."""
        ...

    def worker_refused(self, reason: str) -> None:
        """The model can't be loaded."""
        ...

    def call_answered(self, call: Call, status: int) -> None:
        """The client has its answer; the worker has room again."""
        ...

    def link_lost(self, reason: str) -> None:
        """The socket is closed or the worker sent nonsense; `held` tells what it still held."""
        ...


class WorkerLink(asyncio.Protocol):
    """One connected worker."""

    def __init__(self, owner: LinkOwner, in_flight_max: int, body_len_max: int) -> None:
        self._owner = owner
        self._reader = FrameReader(body_len_max)
        self._calls: dict[int, Call] = {}
        """Oldest first."""
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        self._heads: dict[bytes, tuple[int, bytes]] = {}
        self.in_flight_max = in_flight_max
        self.head_since_s = 0.0
        """When the worker came to its oldest call."""
        self.ping_sent_s: float | None = None
        """A PING that has no PONG yet."""
        self.counters = WorkerCounters()
        self.has_news = False
        """It answered since the counters were asked for."""
        self._counters_asked: asyncio.Future[None] | None = None
        self.is_lost = False
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)

    # -- asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except (ProtocolError, msgspec.DecodeError) as error:
            self._lose(f"the worker broke the protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("the worker closed its socket" if exc is None else f"the worker's socket failed: {exc}")

    # -- calls -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Calls that the worker holds."""
        return len(self._calls)

    @property
    def oldest(self) -> Call | None:
        """The call that the worker is at."""
        return next(iter(self._calls.values()), None)

    def dispatch(self, call: Call) -> None:
        """Hand over a call; there must be room."""
        call.dispatched_s = time.monotonic()
        if not self._calls:
            self.head_since_s = call.dispatched_s
        self._last_id += 1
        self._calls[self._last_id] = call
        exchange = call.exchange
        header = pack_header(FrameType.INFER, self._last_id, len(call.fields), exchange.body_len)
        self._transport.writelines([header + call.fields, *exchange.body])

    def take_held(self) -> list[Call]:
        """The calls that the worker held, oldest first; it keeps none."""
        held = list(self._calls.values())
        self._calls.clear()
        return held

    # -- orders ------------------------------------------------------------------------------------

    def load(self, fields: dict[str, str], options: bytes) -> None:
        """Send LOAD."""
        self._send(FrameType.LOAD, pack_fields(fields), options)

    def drain(self) -> None:
        """Ask the worker to end after what it holds; it takes no more calls."""
        self.in_flight_max = 0
        self._send(FrameType.DRAIN)

    def ask_counters(self) -> asyncio.Future[None]:
        """Ask for `counters`; the future is done when the worker got to it."""
        self.has_news = False
        if self._counters_asked is None or self._counters_asked.done():
            self._counters_asked = self._loop.create_future()
            self._send(FrameType.STATS)
        return self._counters_asked

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.ping_sent_s = time.monotonic()
        self._send(FrameType.PING)

    def close(self) -> None:
        """Close the socket without a word to the owner."""
        self.is_lost = True
        self._transport.abort()

    def _send(self, frame_type: FrameType, fields: bytes = b"", body: bytes = b"") -> None:
        self._last_id += 1
        self._transport.write(pack_header(frame_type, self._last_id, len(fields), len(body)) + fields + body)

    # -- answers -----------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.RESULT:
                self._answer(frame)
            case FrameType.ERROR:
                self._error(frame)
            case FrameType.STATS:
                self.counters = msgspec.json.decode(bytes(frame.body), type=WorkerCounters)
                if self._counters_asked is not None and not self._counters_asked.done():
                    self._counters_asked.set_result(None)
            case FrameType.PONG:
                self.ping_sent_s = None
            case FrameType.READY:
                fields = unpack_fields(frame.fields)
                self._owner.worker_ready(
                    Loaded(fields.get("device", "cpu"), fields.get("reason", ""), bytes(frame.body))
                )
            case FrameType.DRAIN | FrameType.METADATA:
                return
            case _:
                raise ProtocolError(f"a worker doesn't send frames of type {frame.type}")

    def _answer(self, frame: Frame) -> None:
        call = self._finish(frame)
        head = self._heads.get(frame.fields)
        if head is None:
            head = _render_head(frame.fields)
            if len(self._heads) < HEAD_CACHE_MAX:
                self._heads[frame.fields] = head
        status, headers = head
        call.exchange.answer(status, headers, (frame.body,))
        self._owner.call_answered(call, status)

    def _error(self, frame: Frame) -> None:
        message = bytes(frame.body).decode("utf-8", "replace")
        if not self._calls:
            self._owner.worker_refused(message)
            return
        call = self._finish(frame)
        status = _status(unpack_fields(frame.fields))
        call.exchange.refuse(status, message)
        self._owner.call_answered(call, status)

    def _finish(self, frame: Frame) -> Call:
        call = self._calls.pop(frame.id, None)
        if call is None:
            raise ProtocolError(f"an answer to {frame.id}, which was not asked or has its answer")
        self.head_since_s = time.monotonic()
        self.has_news = True
        return call

    def _lose(self, reason: str) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._transport.abort()
            self._owner.link_lost(reason)


def _status(fields: dict[str, str]) -> int:
    text = fields.get(":status", "")
    if not text.isascii() or not text.isdigit() or not 200 <= int(text) <= 599:
        raise ProtocolError(f"an answer with :status {text[:20]!r}")
    return int(text)


def _render_head(data: bytes) -> tuple[int, bytes]:
    """Fields of a RESULT to the status and the header lines of its HTTP answer."""
    fields = unpack_fields(data)
    status = _status(fields)
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if name in ANSWER_HEADERS]
    if any("\r" in line[:-2] for line in lines):
        raise ProtocolError("an answer header holds a carriage return")
    return status, "".join(lines).encode("latin-1", "replace") or JSON
