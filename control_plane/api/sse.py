"""Reads server-sent events out of a stream of bytes: pure, without sockets, so that it is tested by bytes alone.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...descriptions.errors import ProtocolError

EVENT_BYTES_MAX = 4 * 1024 * 1024
"""Largest event that is read; the largest object is 1 MiB."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `id` is the last one that the stream told, as the standard wants it."""

    event: str
    data: str
    id: str


@dataclass
class EventParser:
    """Takes bytes as they come and gives events as they are complete."""

    _rest: bytes = b""
    _event: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Events that these bytes complete. Raises `ProtocolError` for one that is over the cap."""
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        self._check(len(self._rest))
        for line in lines:
            if line:
                self._line(line.decode("utf-8", "replace"))
            elif self._data:
                yield ServerEvent(self._event or "message", "\n".join(self._data), self._id)
                self._reset()
            else:
                self._reset()

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value)
            self._check(self._size)
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _reset(self) -> None:
        self._event, self._data, self._size = "", [], 0

    def _check(self, size: int) -> None:
        if size > EVENT_BYTES_MAX:
            raise ProtocolError(f"an event of the stream is over {EVENT_BYTES_MAX} bytes")
