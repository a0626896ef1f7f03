"""Answers the `logs` verb: lines of replicas' files and of the agent itself, from the end or from a cursor on.

The control plane asks again with the cursor of the answer before; nothing is kept here between two requests but the
agent's own latest records. Blocking reads: `commands.py` calls it in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..descriptions.messages.logs import CHUNK_BYTES_MAX, LINE_CHARS_MAX, LogChunk, LogEntry, LogRequest
from ..telemetry.logs import LogEntry as LogRecord
from ..telemetry.logs import RecentLogs

READ_MAX = CHUNK_BYTES_MAX
ENTRY_BYTES = 64
"""What an entry costs beside its line."""


class Cursor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where the next request goes on."""

    own: int = -1
    offsets: dict[str, int] = {}
    """Replica → bytes of its file that were told."""


class LogReader:
    """Reads one node's logs."""

    def __init__(self, own: RecentLogs) -> None:
        self._own = own

    def read(self, request: LogRequest, files: Mapping[str, Path]) -> LogChunk:
        """Lines of these files (by replica), or the agent's own when there are none."""
        cursor = _decoded(request.cursor)
        if not files and not request.replica and not request.component:
            start = cursor.own if cursor.own >= 0 else max(0, self._own.seq - request.tail)
            waiting, lost = self._own.since(start)
            entries = _fitting([_entry(record) for record in waiting])
            return LogChunk(tuple(entries), _encoded(Cursor(own=start + lost + len(entries))))
        entries, offsets = [], dict(cursor.offsets)
        for replica, path in sorted(files.items()):
            room = CHUNK_BYTES_MAX - sum(len(one.line) + ENTRY_BYTES for one in entries)
            found, offsets[replica] = _read(replica, path, cursor.offsets.get(replica), request.tail, room)
            entries += found
        return LogChunk(tuple(entries), _encoded(Cursor(offsets=offsets)))


def _read(replica: str, path: Path, offset: int | None, tail: int, room: int) -> tuple[list[LogEntry], int]:
    """Whole lines from the offset on, or the last `tail`; and the offset behind them."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if offset is None or offset > size:  # a first request, or the file was capped meanwhile
                start = 0 if offset is not None else max(0, size - READ_MAX)
                stream.seek(start)
                lines = stream.read(READ_MAX).splitlines(keepends=True)
                kept = lines if offset is not None else lines[max(0, len(lines) - tail) :] if tail else []
                offset = start + sum(map(len, lines[: len(lines) - len(kept)]))
            else:
                stream.seek(offset)
                kept = stream.read(READ_MAX).splitlines(keepends=True)
    except FileNotFoundError:
        return [], 0
    entries: list[LogEntry] = []
    for line in kept:
        text = line.decode("utf-8", "replace").rstrip("\r\n")[:LINE_CHARS_MAX]
        is_whole = line.endswith(b"\n") or len(line) >= READ_MAX
        if not is_whole or len(text) + ENTRY_BYTES > room:
            break  # it isn't whole yet, or the chunk is full: next time
        room -= len(text) + ENTRY_BYTES
        entries.append(LogEntry(text, replica=replica))
        offset += len(line)
    return entries, offset


def _entry(record: LogRecord) -> LogEntry:
    line = f"{logging.getLevelName(record.level)} {record.logger} {record.message}"[:LINE_CHARS_MAX]
    time = datetime.fromtimestamp(record.unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return LogEntry(line, time, stream="agent")


def _fitting(entries: list[LogEntry]) -> list[LogEntry]:
    """As many as one chunk takes."""
    room, taken = CHUNK_BYTES_MAX, list[LogEntry]()
    for entry in entries:
        room -= len(entry.line) + ENTRY_BYTES
        if room < 0:
            break
        taken.append(entry)
    return taken


def _encoded(cursor: Cursor) -> str:
    return msgspec.json.encode(cursor).decode()


def _decoded(cursor: str) -> Cursor:
    """A cursor that is none of ours begins anew."""
    try:
        return msgspec.json.decode(cursor, type=Cursor) if cursor else Cursor()
    except msgspec.DecodeError:
        return Cursor()
