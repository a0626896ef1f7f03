"""A client connection: bytes to `Exchange`s, answers back in the order of the requests.

httptools (llhttp, strict) parses; this class holds the limits of `settings.Limits` and pipelining: requests of one
connection are handled one after another, and nothing more is read while complete ones wait.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import httptools

from ...frames import Buffer
from .exchange import Exchange

if TYPE_CHECKING:
    from .server import HttpServer

HEADERS_MAX = 100
LINGER_S = 2.0
"""How long a refused client may go on sending, so that it can read why before the connection is reset."""
WANTED = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"inference-header-content-length",
        b"origin",
        b"shoal-hops",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"x-request-id",
    }
)
"""Header fields that anything here looks at; the others are dropped as they come."""


class HttpConnection(asyncio.Protocol):
    """One client; callbacks named `on_…` are httptools'."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._target = b""
        self._head_len = 0
        self._header_count = 0
        self._is_receiving = False
        """Between the first byte of a request and its last."""
        self._exchange: Exchange | None = None
        """Whose body is being received."""
        self._current: Exchange | None = None
        """Being handled."""
        self._waiting: deque[Exchange] = deque()
        """Complete, behind the current one; the last may be an error that closes the connection."""
        self._is_over = False
        """No further request is read."""
        self._is_write_paused = False
        self.deadline_s = math.inf
        """When the server cuts this connection off, by its clock."""
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    # -- asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._server.admit(self):
            self.deadline_s = self._server.now_s() + self._server.limits.head_s_max
        else:
            self._is_over = True
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        for exchange in (self._exchange, *self._waiting):
            self._release_body(exchange)
        self._waiting.clear()
        if self._current is not None:
            self._current.is_answered = True  # nobody is left to read an answer
            self._finish_current()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refusal):
                raise
            self._refuse(error.__context__.status, error.__context__.message)
        except httptools.HttpParserError as error:
            self._refuse(400, f"malformed HTTP request: {error}")

    def eof_received(self) -> bool:
        """The client is gone: a half-closed one looks the same, and work for nobody is worse than refusing those."""
        return False

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._set_deadline()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._set_deadline()
        self._next()

    # -- httptools ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = {}
        self._target = b""
        self._head_len = self._header_count = 0
        self._is_receiving = True
        self._set_deadline()

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._count_head(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._count_head(len(name) + len(value) + 4)
        name = name.lower()
        if name in WANTED:
            if name in self._headers:
                raise _Refusal(400, f"header {name.decode()} is given twice")
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # it comes again from `_ignore_upgrade`
        method = self._parser.get_method().decode("ascii", "replace")
        headers, limits = self._headers, self._server.limits
        exchange = Exchange(self, method, self._target.decode("latin-1"), headers)
        exchange.keep_alive = self._parser.should_keep_alive()
        length = int(headers.get(b"content-length", b"0"))  # llhttp has checked that it is a number
        if length > limits.body_bytes_max:
            raise _Refusal(413, f"the body has {length} bytes, at most {limits.body_bytes_max} are taken")
        if length or b"transfer-encoding" in headers:
            refusal = self._server.refusal(exchange)
            if refusal is not None:
                raise _Refusal(*refusal)
            if headers.get(b"expect", b"").lower() == b"100-continue" and self._current is None:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._exchange = exchange
        self._set_deadline()

    def on_body(self, part: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.body.append(part)
        exchange.body_len += len(part)
        self._server.buffered_bytes += len(part)
        if exchange.body_len > self._server.limits.body_bytes_max:
            raise _Refusal(413, f"the body has more than {self._server.limits.body_bytes_max} bytes")
        if self._server.buffered_bytes > self._server.limits.buffered_bytes_max:
            raise _Refusal(503, "too many bytes are being received")

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        self._is_receiving = False
        if exchange is None:
            return
        exchange.received_s = self._server.now_s()
        self._waiting.append(exchange)
        if self._current is None:
            self._next()
        else:
            self.transport.pause_reading()

    # -- answers -----------------------------------------------------------------------------------

    def send(self, parts: Sequence[Buffer], *, close: bool) -> None:
        """Write an answer and go on, or close."""
        was_refused = isinstance(self._current, _Refused)
        self._finish_current()
        if self.transport.is_closing():
            return
        self.transport.writelines(parts)
        if was_refused:
            self._linger()
        elif close or (self._is_over and not self._waiting):
            self._is_over = True
            self.transport.close()
        else:
            self._set_deadline()
            if self._waiting:
                self._server.loop.call_soon(self._next)

    def cut_off(self) -> None:
        """The deadline passed."""
        if self._is_receiving and not self._is_over and not self._is_write_paused:
            self._refuse(408, "the request took too long to arrive")
        else:
            self.transport.abort()

    def _next(self) -> None:
        if self._current is not None or self._is_write_paused or not self._waiting or self.transport.is_closing():
            return
        self._current = exchange = self._waiting.popleft()
        self._set_deadline()
        if isinstance(exchange, _Refused):
            exchange.refuse(exchange.status, exchange.message, retry_after_s=1 if exchange.status == 503 else None)
            return
        if not self._waiting and not self._is_over:
            self.transport.resume_reading()
        try:
            self._server.begin(exchange)
        except BaseException:  # a mistake of ours costs this client its connection, nobody else anything
            self.transport.abort()
            raise

    def _finish_current(self) -> None:
        if self._current is not None:
            if not isinstance(self._current, _Refused):
                self._server.end()
            self._release_body(self._current)
            self._current = None

    def _refuse(self, status: int, message: str) -> None:
        """Answer what came before, then this, then close."""
        self._release_body(self._exchange)
        self._exchange = None
        self._is_over = True
        self._waiting.append(_Refused(self, status, message))
        self._next()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request once more without its Upgrade header; httptools would drop the body.

        Servers may ignore Upgrade (RFC 9110, 7.8), and some clients begin every connection with an offer of h2c.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "this is no proxy")
            return
        head = b"%b %b HTTP/1.1\r\n" % (method, self._target)
        head += b"".join(b"%b: %b\r\n" % item for item in self._headers.items())
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(head + b"\r\n" + rest)

    def _linger(self) -> None:
        """Close our half and drop what still comes: a reset would destroy the answer on its way."""
        self.deadline_s = self._server.now_s() + LINGER_S
        self._is_receiving = False
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()

    def _set_deadline(self) -> None:
        limits = self._server.limits
        if self._is_write_paused:
            seconds = limits.write_s_max
        elif self._current is not None:
            seconds = math.inf  # the handler has its own
        elif self._exchange is not None:
            seconds = limits.body_s_max
        else:
            seconds = limits.head_s_max if self._is_receiving else limits.idle_s_max
        self.deadline_s = self._server.now_s() + seconds

    def _count_head(self, size: int) -> None:
        self._head_len += size
        if self._head_len > self._server.limits.head_bytes_max or self._header_count > HEADERS_MAX:
            raise _Refusal(431, "request line and headers are too large")

    def _release_body(self, exchange: Exchange | None) -> None:
        if exchange is not None:
            self._server.buffered_bytes -= exchange.body_len
            exchange.body_len = 0


class _Refused(Exchange):
    """Stands in the queue for a request that couldn't be read."""

    __slots__ = ("message", "status")

    def __init__(self, connection: HttpConnection, status: int, message: str) -> None:
        super().__init__(connection, "", "", {})
        self.keep_alive = False
        self.status = status
        self.message = message


class _Refusal(Exception):  # noqa: N818  # carried through httptools' callbacks, never seen outside
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
