from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from shoal.descriptions.errors import DescriptionError
from shoal.telemetry.logs import LINE_CHARS_MAX, RecentLogs, set_log_level, set_up_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The process's logging as it was."""
    root, own = logging.getLogger(), logging.getLogger("shoal")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]


def test_json_lines_carry_level_logger_message_and_traceback() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    log = logging.getLogger("shoal.test")
    log.info("node=%s is %s", "n1", "réady")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broken\nin two lines")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "shoal.test", "node=n1 is réady")
    assert first["time"].endswith("+00:00")
    assert "ValueError: why" in second["traceback"]


def test_text_lines_are_for_people() -> None:
    stream = io.StringIO()
    set_up_logging("info", "text", stream)
    logging.getLogger("shoal.test").warning("look here")
    assert stream.getvalue().endswith("WARNING shoal.test: look here\n")


def test_the_level_changes_live_and_libraries_stay_quiet() -> None:
    stream = io.StringIO()
    set_up_logging("warning", "text", stream)
    own, library = logging.getLogger("shoal.test"), logging.getLogger("library")
    own.info("one")
    set_log_level("info")
    own.info("two")
    library.info("three")
    set_log_level("debug")
    own.debug("four")
    library.debug("five")
    said = [line.split(": ")[-1] for line in stream.getvalue().splitlines()]
    assert said == ["two", "four", "five"]


def test_an_unknown_level_is_told() -> None:
    with pytest.raises(DescriptionError, match="log level 'loud'"):
        set_log_level("loud")


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("shoal.test", logging.INFO, "", 0, message, (), None)


def test_recent_logs_are_bounded_by_number_and_say_what_was_lost() -> None:
    recent = RecentLogs(records_max=3)
    for number in range(5):
        recent.handle(record(str(number)))
    entries, lost = recent.since(0)
    assert ([entry.message for entry in entries], lost) == (["2", "3", "4"], 2)
    entries, lost = recent.since(entries[-1].seq + 1)
    assert (entries, lost) == ([], 0)
    recent.handle(record("5"))
    assert [entry.message for entry in recent.since(5)[0]] == ["5"]
    assert [entry.message for entry in recent.since(0, limit=1)[0]] == ["3"]


def test_recent_logs_are_bounded_by_size() -> None:
    recent = RecentLogs(bytes_max=10_000)
    for _ in range(10):
        recent.handle(record("x" * 20_000))
    entries, _ = recent.since(0)
    assert [len(entry.message) for entry in entries] == [LINE_CHARS_MAX]
