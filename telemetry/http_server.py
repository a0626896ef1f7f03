"""A small HTTP/1.1 server for loopback: requests with bounded heads and bodies in, short answers out.

`receiver.py` serves OTLP with it on agents, where no HTTP framework may be loaded. Every read has a size and a
deadline; whatever is not plain HTTP/1.x with a length or chunks is answered with 400 and the connection ends. No
pipelining beyond one request at a time, no TLS, no upgrade: this never listens on anything but loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ..descriptions.errors import RefusedError

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = 16 * 1024
CONNECTIONS_MAX = 64
REQUEST_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required",
    413: "Content Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A whole request. Header names are in lower case; a header that came twice has its last value."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """An answer; its length is added."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, is_last: bool) -> bytes:
        """Head and body."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}"]
        lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if is_last:
            lines.append("Connection: close")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


class _BadRequestError(Exception):
    """What is answered before the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = Response(status, message.encode())


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    """Serves `handle` on a loopback address: `async with HttpServer(handle) as server: server.port`."""

    def __init__(self, handle: Handler, *, host: str = "127.0.0.1", port: int = 0, body_bytes_max: int) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise RefusedError(f"{host} is no loopback address")
        self._handle = handle
        self._host = host
        self._port = port
        self._body_bytes_max = body_bytes_max
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.refused = 0
        """Connections and requests that were turned away before `handle` saw them."""

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RefusedError("the server isn't running")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    async def __aenter__(self) -> HttpServer:
        self._server = await asyncio.start_server(self._accept, self._host, self._port, limit=HEAD_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            self.refused += 1
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.CancelledError):
            logger.debug("a client went away")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    head = await _read_head(reader)
                if head is None:
                    return
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    request = await _read_request(head, reader, writer, self._body_bytes_max)
            except _BadRequestError as error:
                self.refused += 1
                writer.write(error.response.encode(is_last=True))
                await writer.drain()
                return
            except (TimeoutError, asyncio.IncompleteReadError):
                self.refused += 1
                return
            response = await self._handle(request)
            is_last = request.headers.get("connection", "").lower() == "close" or not head.is_1_1
            writer.write(response.encode(is_last=is_last))
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await writer.drain()
            if is_last:
                return


@dataclass(frozen=True)
class _Head:
    method: str
    path: str
    headers: dict[str, str]
    is_1_1: bool


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    """The request line and headers; None at a clean end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    except asyncio.LimitOverrunError:
        raise _BadRequestError(400, f"request head over {HEAD_BYTES_MAX} bytes") from None
    lines = raw[:-4].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
        raise _BadRequestError(400, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or not name.isascii():
            raise _BadRequestError(400, "malformed header")
        key = name.lower()
        if key in headers and key in ("content-length", "transfer-encoding"):
            raise _BadRequestError(400, f"{name} came twice")
        headers[key] = value.strip()
    return _Head(words[0], words[1].partition("?")[0], headers, words[2] == "HTTP/1.1")


async def _read_request(
    head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body_bytes_max: int
) -> Request:
    length, encoding = head.headers.get("content-length"), head.headers.get("transfer-encoding")
    if length is not None and encoding is not None:
        raise _BadRequestError(400, "both Content-Length and Transfer-Encoding")  # request smuggling, RFC 9112 §6.1
    if head.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if encoding is not None:
        if encoding.lower() != "chunked":
            raise _BadRequestError(400, "unknown Transfer-Encoding")
        return Request(head.method, head.path, head.headers, await _read_chunks(reader, body_bytes_max))
    if length is None:
        if head.method in ("POST", "PUT"):
            raise _BadRequestError(411, "a length is needed")
        return Request(head.method, head.path, head.headers, b"")
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        raise _BadRequestError(400, "malformed Content-Length")
    if int(length) > body_bytes_max:
        raise _BadRequestError(413, f"body over {body_bytes_max} bytes")
    return Request(head.method, head.path, head.headers, await reader.readexactly(int(length)))


async def _read_chunks(reader: asyncio.StreamReader, body_bytes_max: int) -> bytes:
    body = bytearray()
    while True:
        size = await _read_chunk_size(reader)
        if len(body) + size > body_bytes_max:
            raise _BadRequestError(413, f"body over {body_bytes_max} bytes")
        if size == 0:
            if await reader.readexactly(2) != b"\r\n":
                raise _BadRequestError(400, "trailers aren't taken")
            return bytes(body)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise _BadRequestError(400, "malformed chunk")


async def _read_chunk_size(reader: asyncio.StreamReader) -> int:
    try:
        line = await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError:
        raise _BadRequestError(400, "malformed chunk") from None
    text = line[:-2].split(b";")[0].strip()
    if not text or len(text) > 8 or any(byte not in b"0123456789abcdefABCDEF" for byte in text):
        raise _BadRequestError(400, "malformed chunk size")
    return int(text, 16)
