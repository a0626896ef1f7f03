"""Log lines from the end and from a cursor on, through caps, truncation and lines of every kind."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from shoal.agents.log_reader import LogReader
from shoal.descriptions.messages.codec import encode
from shoal.descriptions.messages.logs import CHUNK_BYTES_MAX, LINE_CHARS_MAX, LogRequest
from shoal.mechanisms.log_files import cap_log
from shoal.telemetry.logs import RecentLogs

REPLICA = "a.b.0"


@pytest.fixture
def own() -> RecentLogs:
    return RecentLogs()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def lines(reader: LogReader, path: Path, tail: int = 200, cursor: str = "") -> tuple[list[str], str]:
    chunk = reader.read(LogRequest(replica=REPLICA, tail=tail, cursor=cursor), {REPLICA: path})
    assert all(entry.replica == REPLICA for entry in chunk.entries)
    assert len(encode(chunk)) < 256 * 1024
    return [entry.line for entry in chunk.entries], chunk.cursor


def write(path: Path, *more: str) -> None:
    with path.open("a") as stream:
        stream.write("".join(f"{line}\n" for line in more))


def test_the_last_lines_and_then_what_comes(own: RecentLogs, log: Path) -> None:
    reader = LogReader(own)
    write(log, "1", "2", "3")
    found, cursor = lines(reader, log, tail=2)
    assert found == ["2", "3"]
    assert lines(reader, log, cursor=cursor) == ([], cursor)
    write(log, "4", "5")
    found, cursor = lines(reader, log, cursor=cursor)
    assert found == ["4", "5"]


def test_tail_nothing_only_follows(own: RecentLogs, log: Path) -> None:
    reader = LogReader(own)
    write(log, "1")
    found, cursor = lines(reader, log, tail=0)
    assert found == []
    write(log, "2")
    assert lines(reader, log, cursor=cursor)[0] == ["2"]


def test_a_line_that_is_not_finished_waits(own: RecentLogs, log: Path) -> None:
    reader = LogReader(own)
    log.write_text("whole\nhal")
    found, cursor = lines(reader, log)
    assert found == ["whole"]
    write(log, "f")
    assert lines(reader, log, cursor=cursor)[0] == ["half"]


def test_a_capped_file_is_read_on(own: RecentLogs, log: Path) -> None:
    reader = LogReader(own)
    write(log, *[f"old {number}" for number in range(100)])
    _, cursor = lines(reader, log)
    assert cap_log(log, 100)
    write(log, "new")
    assert lines(reader, log, cursor=cursor)[0] == ["new"]


def test_much_comes_in_chunks_that_fit_and_miss_nothing(own: RecentLogs, log: Path) -> None:
    reader = LogReader(own)
    write(log, "start")
    _, cursor = lines(reader, log)
    expected = [f"{number} " + "x" * 100 for number in range(5000)]
    write(log, *expected)
    found: list[str] = []
    for _ in range(100):
        more, cursor = lines(reader, log, cursor=cursor)
        if not more:
            break
        found += more
    assert found == expected


@pytest.mark.parametrize("size", [LINE_CHARS_MAX + 10, CHUNK_BYTES_MAX * 3])
def test_an_endless_line_is_cut_and_passed(own: RecentLogs, log: Path, size: int) -> None:
    reader = LogReader(own)
    write(log, "start")
    _, cursor = lines(reader, log)
    write(log, "x" * size, "after")
    found: list[str] = []
    for _ in range(20):
        more, cursor = lines(reader, log, cursor=cursor)
        found += more
    assert found[-1] == "after"
    assert all(len(line) <= LINE_CHARS_MAX for line in found)


def test_bytes_that_are_no_text(own: RecentLogs, log: Path) -> None:
    log.write_bytes(b"\xff\xfe\x00ok\r\n")
    assert lines(LogReader(own), log)[0] == ["��\x00ok"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "{}", '{"offsets":{"a.b.0":999999999}}', '{"own":"x"}'])
def test_a_cursor_that_is_none_of_ours_does_no_harm(own: RecentLogs, log: Path, cursor: str) -> None:
    write(log, "1")
    assert lines(LogReader(own), log, cursor=cursor)[0] == ["1"]


def test_a_file_that_is_not_there_has_no_lines(own: RecentLogs, log: Path) -> None:
    reader = LogReader(own)
    found, cursor = lines(reader, log)
    assert found == []
    write(log, "1")
    assert lines(reader, log, cursor=cursor)[0] == ["1"]


def note(own: RecentLogs, message: str, level: int = logging.INFO) -> None:
    own.handle(logging.LogRecord("shoal.test", level, __file__, 1, message, None, None))


def test_the_agents_own_lines(own: RecentLogs) -> None:
    reader = LogReader(own)
    for number in range(10):
        note(own, f"line {number}")
    chunk = reader.read(LogRequest(tail=3), {})
    assert [entry.line for entry in chunk.entries] == [f"INFO shoal.test line {number}" for number in (7, 8, 9)]
    assert {entry.stream for entry in chunk.entries} == {"agent"}
    note(own, "more", logging.WARNING)
    chunk = reader.read(LogRequest(cursor=chunk.cursor), {})
    assert [entry.line for entry in chunk.entries] == ["WARNING shoal.test more"]
    assert reader.read(LogRequest(cursor=chunk.cursor), {}).entries == ()


def test_own_lines_come_in_chunks_that_fit(own: RecentLogs) -> None:
    for number in range(200):
        note(own, f"{number} {'x' * 4000}")
    reader, cursor, seen = LogReader(own), "", 0
    for _ in range(20):
        chunk = reader.read(LogRequest(tail=150, cursor=cursor), {})
        assert len(encode(chunk)) < 256 * 1024
        cursor, seen = chunk.cursor, seen + len(chunk.entries)
    assert seen == 150
