"""One request and the place for its answer. The connection makes it, a handler answers it exactly once."""

from __future__ import annotations

import email.utils
import http
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from ...frames import Buffer

JSON = b"content-type: application/json\r\n"
"""Without a charset: a client of KServe compares the whole value."""
NO_HEADERS: dict[bytes, bytes] = {}
_STATUS_LINE = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
    if status.value >= 200
}


class Answering(Protocol):
    """What an exchange needs of its connection."""

    def send(self, parts: Sequence[Buffer], *, close: bool) -> None:
        """Write an answer and go on to the next request, or close."""
        ...


class Exchange:
    """A whole request. `path` is percent-encoded as it came, without the query; header names are lower case."""

    __slots__ = (
        "body",
        "body_len",
        "connection",
        "headers",
        "is_answered",
        "keep_alive",
        "method",
        "path",
        "query",
        "received_s",
    )

    def __init__(self, connection: Answering, method: str, target: str, headers: dict[bytes, bytes]) -> None:
        self.connection = connection
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body: list[Buffer] = []
        self.body_len = 0
        self.keep_alive = True
        self.received_s = 0.0
        self.is_answered = False

    def answer(self, status: int, headers: bytes = JSON, body: Sequence[Buffer] = ()) -> None:
        """Send status, header lines (each ended by CRLF; date and length are added) and body."""
        if self.is_answered:
            return
        self.is_answered = True
        length = sum(len(part) for part in body)
        line = _STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        head = b"%b%b%bdate: %b\r\ncontent-length: %d\r\n\r\n" % (line, headers, closing, _date(), length)
        self.connection.send([head, *body] if self.method != "HEAD" else [head], close=not self.keep_alive)

    def answer_json(self, value: object, status: int = 200) -> None:
        """Send a msgspec struct or plain data."""
        self.answer(status, JSON, (msgspec.json.encode(value),))

    def refuse(self, status: int, message: str, *, retry_after_s: float | None = None, allow: str = "") -> None:
        """Send `{"error": message}`, the form of every error of the v2 protocol."""
        headers = JSON
        if retry_after_s is not None:
            headers += b"retry-after: %d\r\n" % max(1, int(retry_after_s + 0.999))
        if allow:
            headers += b"allow: %b\r\n" % allow.encode()
        if status == 401:
            headers += b"www-authenticate: Bearer\r\n"
        self.answer(status, headers, (msgspec.json.encode({"error": message}),))


class _Date:
    second = 0
    text = b""


def _date() -> bytes:
    """RFC 9110 date, made once a second."""
    now = int(time.time())
    if now != _Date.second:
        _Date.second = now
        _Date.text = email.utils.formatdate(now, usegmt=True).encode()
    return _Date.text
