"""The `logs` verb of `down/cmd`: which lines are asked for, and the lines that come back.

`arguments` of the Command are the fields of `LogRequest`, `body` of the CommandResult is a `LogChunk`. Whoever follows
a log asks again with the `cursor` of the chunk before; the agent keeps nothing between two requests.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .codec import Message

LINES_MAX = 10_000
LINE_CHARS_MAX = 4096
CHUNK_BYTES_MAX = 192 * 1024
"""A chunk with more lines than this ends early; its cursor says where to go on."""

Short = Annotated[str, msgspec.Meta(max_length=253)]


class LogRequest(Message, frozen=True):
    """Which lines."""

    replica: Short = ""
    """Replica id."""
    component: Short = ""
    """`application.component`: all of its replicas on the node. With neither, the agent's own log."""
    tail: Annotated[int, msgspec.Meta(ge=0, le=LINES_MAX)] = 200
    """Last lines of each log to begin with; only without a cursor."""
    cursor: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    """From the chunk before: lines behind it."""


class LogEntry(Message, frozen=True):
    """One line."""

    line: str
    """At most `LINE_CHARS_MAX` characters, without its end."""
    time: str = ""
    """RFC 3339 by the node's clock, where the log says it."""
    replica: str = ""
    """Empty for the agent's own."""
    stream: Literal["stdout", "stderr", "agent"] = "stdout"


class LogChunk(Message, frozen=True):
    """Lines, oldest first."""

    entries: tuple[LogEntry, ...] = ()
    cursor: str = ""
    """Where the next request goes on; opaque."""
