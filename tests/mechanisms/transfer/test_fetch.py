"""Downloads from a real HTTP server on loopback: resume, digests, caps, and servers that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shoal.descriptions.errors import ProtocolError, RefusedError, ShoalError, TransportError
from shoal.mechanisms.transfer.cache import Cache
from shoal.mechanisms.transfer.http import Wanted, fetch
from shoal.mechanisms.transfer.origin import Origins

BODY = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY at `/m`; each test says how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.cut_after = len(BODY)
        self.answer: Callable[[Handler], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] - only this server makes it

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted, self.headers.get("Authorization")))
        if self.server.answer is not None:
            self.server.answer(self)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(BODY[start : self.server.cut_after])
        if self.server.cut_after < len(BODY):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


def wanted(server: Server, **changes: object) -> Wanted:
    plain: dict[str, object] = {"url": f"{server.url}/m", "sha256": SHA256, "size": len(BODY), "size_max": 1 << 30}
    return Wanted(**(plain | changes))  # type: ignore[arg-type]


def get(server: Server, path: Path, one: Wanted | None = None) -> list[int]:
    told: list[int] = []
    origins = Origins(server.url, token="secret")
    fetch(one or wanted(server), path, origins, threading.Event(), told.append)
    return told


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    told = get(server, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == BODY
    assert told == sorted(told)
    assert told[-1] == len(BODY)
    assert server.requests == [("/m", None, "Bearer secret")]


@pytest.mark.parametrize("size", [len(BODY), 0], ids=["known size", "unknown size"])
def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path, size: int) -> None:
    server.cut_after = 100_000
    with pytest.raises(ShoalError):
        get(server, tmp_path / "m", wanted(server, size=size))
    if size:
        have = (tmp_path / "m").stat().st_size
        assert 0 < have <= 100_000
    else:
        have = 0  # nothing said how long it should be: the digest was wrong, so it begins again
    server.cut_after = len(BODY)
    get(server, tmp_path / "m", wanted(server, size=size))
    assert (tmp_path / "m").read_bytes() == BODY
    assert server.requests[-1][1] == (f"bytes={have}-" if have else None)


def test_what_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(BODY)
    assert get(server, tmp_path / "m") == []
    assert server.requests == []


def test_a_source_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    def no_ranges(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY)

    (tmp_path / "m").write_bytes(BODY[:5000])
    server.answer = no_ranges
    get(server, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == BODY


def test_wrong_bytes_are_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * 1000)
    with pytest.raises(ProtocolError, match="expected"):
        get(server, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    get(server, tmp_path / "m")


def answers(status: int, headers: dict[str, str], body: bytes = b"") -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (answers(302, {"Location": "http://127.0.0.1:1/", "Content-Length": "0"}), RefusedError, "redirects"),
        (answers(404, {"Content-Length": "0"}), TransportError, "answers 404"),
        (answers(503, {"Content-Length": "0"}), TransportError, "answers 503"),
        (answers(200, {"Content-Length": str(len(BODY) + 1)}), RefusedError, "expected at most"),
        (answers(200, {}, BODY + b"more"), RefusedError, "more bytes"),
        (answers(206, {"Content-Range": "bytes 7-9/10", "Content-Length": "3"}), TransportError, "another range"),
        (answers(206, {"Content-Length": "3"}), TransportError, "another range"),
        (answers(200, {"Transfer-Encoding": "chunked"}, b"zz\r\n"), TransportError, "127.0.0.1"),
    ],
    ids=["redirect", "missing", "busy", "too long", "endless", "wrong range", "no range", "nonsense"],
)
def test_sources_that_misbehave(
    server: Server, tmp_path: Path, answer: Callable[[Handler], None], error: type[ShoalError], message: str
) -> None:
    server.answer = answer
    with pytest.raises(error, match=message):
        get(server, tmp_path / "m")
    if (tmp_path / "m").exists():
        assert (tmp_path / "m").stat().st_size <= len(BODY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sha256": "abc"}, "without a SHA-256"), ({"sha256": "../" * 21 + "a"}, "without"), ({"size": 2 << 30}, "limit")],
)
def test_artifacts_that_are_refused_before_any_request(
    server: Server, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        wanted(server, **changes)


def test_stopping_keeps_what_is_there(server: Server, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(TransportError, match="stopped"):
        fetch(wanted(server), tmp_path / "m", Origins(server.url), stop, lambda done: stop.set())
    assert 0 < (tmp_path / "m").stat().st_size < len(BODY)


# --- cache ----------------------------------------------------------------------------------------------------------


def nothing_kept() -> set[str]:
    return set()


def cache(server: Server, folder: Path, quota: int = 1 << 30) -> Cache:
    return Cache(folder, Origins(server.url), quota)


def test_askers_share_one_download(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        one = cache(server, tmp_path)
        paths = await asyncio.gather(*[one.get(wanted(server), nothing_kept) for _ in range(5)])
        assert {path.read_bytes() == BODY for path in paths} == {True}
        assert len(server.requests) == 1
        await one.get(wanted(server), nothing_kept)
        assert len(server.requests) == 1
        assert one.progress(SHA256) is None

    asyncio.run(test())


def test_a_file_that_changed_on_disk_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        one = cache(server, tmp_path)
        path = await one.get(wanted(server), nothing_kept)
        path.write_bytes(BODY[:-1] + b"!")
        assert (await one.get(wanted(server), nothing_kept)).read_bytes() == BODY
        assert len(server.requests) == 2

    asyncio.run(test())


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(server: Server, tmp_path: Path) -> None:
    import os

    for name, age in (("used", 900), ("old", 500), ("new", 100)):
        (tmp_path / name).write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))

    async def test() -> None:
        one = cache(server, tmp_path, quota=len(BODY) + 2500)
        await one.get(wanted(server), lambda: {"used"})
        assert {path.name for path in tmp_path.iterdir()} == {"used", "new", SHA256}
        with pytest.raises(TransportError, match="no room"):
            await one.get(wanted(server, sha256="0" * 64), lambda: {"used", "new", SHA256})

    asyncio.run(test())


def test_a_failed_download_tells_every_asker_and_can_be_tried_again(server: Server, tmp_path: Path) -> None:
    async def test() -> None:
        one = cache(server, tmp_path)
        server.answer = answers(503, {"Content-Length": "0"})
        found = await asyncio.gather(*[one.get(wanted(server), nothing_kept) for _ in range(3)], return_exceptions=True)
        assert [type(error) for error in found] == [TransportError] * 3
        server.answer = None
        assert (await one.get(wanted(server), nothing_kept)).read_bytes() == BODY

    asyncio.run(test())


def test_when_nobody_waits_any_more_the_download_stops(server: Server, tmp_path: Path) -> None:
    going, proceed = threading.Event(), threading.Event()

    def slow(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:1000])
        handler.wfile.flush()
        going.set()
        proceed.wait(30)
        handler.wfile.write(BODY[1000:2000])
        handler.close_connection = True

    async def test() -> None:
        one = cache(server, tmp_path)
        server.answer = slow
        asking = asyncio.create_task(one.get(wanted(server), nothing_kept))
        await asyncio.to_thread(going.wait, 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        proceed.set()
        await one.close()
        assert one.progress(SHA256) is None

    asyncio.run(test())
