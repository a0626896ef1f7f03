"""A kept-alive connection to another node's gateway: one request at a time, the whole answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools

from .....descriptions.errors import ProtocolError, TransportError
from ...frames import Buffer

HEAD_BYTES_MAX = 16 * 1024
PASSED_ON = frozenset(
    {b"content-type", b"content-encoding", b"inference-header-content-length", b"retry-after", b"allow"}
)


@dataclass
class UpstreamAnswer:
    """What the other node said; `headers` are lines ready to send on."""

    status: int = 0
    headers: bytes = b""
    body: list[Buffer] = field(default_factory=list)
    body_len: int = 0


class UpstreamConnection(asyncio.Protocol):
    """One connection; callbacks named `on_…` are httptools'."""

    def __init__(self, body_len_max: int) -> None:
        self._body_len_max = body_len_max
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpResponseParser(self)
        self._answer = UpstreamAnswer()
        self._future: asyncio.Future[UpstreamAnswer] | None = None
        self._head_len = 0
        self.is_open = False

    async def request(self, parts: Sequence[Buffer]) -> UpstreamAnswer:
        """Send a request and wait for its answer.

        `TransportError` when the connection ended before the first byte of an answer, so that nothing was promised;
        `ProtocolError` when it ended or broke in the midst of one.
        """
        if not self.is_open:
            raise TransportError("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._head_len = UpstreamAnswer(), 0
        self._future = asyncio.get_running_loop().create_future()
        self._transport.writelines(parts)
        try:
            return await self._future
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._future = None

    def close(self) -> None:
        """Drop the connection."""
        self.is_open = False
        self._transport.abort()

    # -- asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._future is None or self._future.done():
            self.close()  # an answer to nothing
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ProtocolError(f"malformed answer: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer.status or self._head_len:
            self._fail(ProtocolError("the connection ended in the midst of the answer"))
        else:
            self._fail(TransportError(f"the connection ended before an answer: {exc or 'closed'}"))

    # -- httptools ---------------------------------------------------------------------------------

    def on_status(self, _reason: bytes) -> None:
        self._head_len += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_len += len(name) + len(value)
        if self._head_len > HEAD_BYTES_MAX:
            self._fail(ProtocolError("the answer's head is too large"))
        elif name.lower() in PASSED_ON:
            self._answer.headers += b"%b: %b\r\n" % (name.lower(), value)

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        self._answer.body.append(part)
        self._answer.body_len += len(part)
        if self._answer.body_len > self._body_len_max:
            self._fail(ProtocolError(f"the answer has more than {self._body_len_max} bytes"))

    def on_message_complete(self) -> None:
        if 100 <= self._answer.status < 200:
            self._answer = UpstreamAnswer()
            return
        if not self._parser.should_keep_alive():
            self.close()
        if self._future is not None and not self._future.done():
            self._future.set_result(self._answer)

    def _fail(self, error: Exception) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)
        self.close()
