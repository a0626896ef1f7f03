"""Logging of a process: lines for people or JSON for machines, a level that can change, and the latest records kept.

Every process calls `set_up_logging` once, in its main function. `RecentLogs` keeps a bounded number of records in
memory: exporters take what is new from it, and it can be followed. Log files of components are the process mechanism's,
read by `agents/log_reader.py`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO

from ..descriptions.errors import DescriptionError

LEVELS = ("debug", "info", "warning", "error")
LINE_CHARS_MAX = 8192
RECORDS_MAX = 2000
BYTES_MAX = 1024 * 1024

Style = Literal["text", "json"]


def set_up_logging(level: str, style: Style, stream: TextIO | None = None) -> None:
    """Log to standard error (or `stream`) and nowhere else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.getLogger().handlers[:] = [handler]
    set_log_level(level)


def set_log_level(level: str) -> None:
    """Change the level while running; libraries stay at warnings unless it is `debug`."""
    if level not in LEVELS:
        raise DescriptionError(f"log level {level[:32]!r}", expected=", ".join(LEVELS))
    logging.getLogger().setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.getLogger(__name__.partition(".")[0]).setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:LINE_CHARS_MAX],
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)[-LINE_CHARS_MAX:]
        return json.dumps(entry, ensure_ascii=False)


@dataclass(frozen=True)
class LogEntry:
    """A record as exporters need it; `seq` counts records of this process."""

    seq: int
    unix_s: float
    level: int
    """As the `logging` module numbers them."""
    logger: str
    message: str


class RecentLogs(logging.Handler):
    """The newest records, in memory, bounded by number and by size. Thread-safe as handlers are."""

    def __init__(self, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX) -> None:
        super().__init__()
        self._entries: deque[LogEntry] = deque()
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self.seq = 0
        """Of the next record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; the oldest make room."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{logging.Formatter().formatException(record.exc_info)}"
        entry = LogEntry(self.seq, record.created, record.levelno, record.name, message[:LINE_CHARS_MAX])
        self.seq += 1
        self._entries.append(entry)
        self._bytes += len(entry.message)
        while len(self._entries) > self._records_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._entries.popleft().message)

    def since(self, seq: int, limit: int = RECORDS_MAX) -> tuple[list[LogEntry], int]:
        """Records from this number on that are still kept, oldest first; and how many were lost before them."""
        self.acquire()
        try:
            found = [entry for entry in self._entries if entry.seq >= seq][:limit]
            first = self._entries[0].seq if self._entries else self.seq
            return found, max(0, first - seq)
        finally:
            self.release()
