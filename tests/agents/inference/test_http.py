"""HTTP/1.1 as the gateway takes it from a socket: pipelining, chunks, limits, and bytes that are no HTTP."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO

import pytest

from shoal.descriptions.messages.gateway import ServingSpec

from .harness import GatewayProcess, Launch, UnixConnection, send, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]
INFER = "/v2/models/scale/infer"


@pytest.fixture(scope="module")
def gateway(shared: GatewayProcess, double: ServingSpec) -> GatewayProcess:
    shared.serve("double", double)
    return shared


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[socket.socket]:
    with socket.create_connection(gateway.address, timeout=60) as sock:
        yield sock


def post(body: bytes, *lines: str) -> bytes:
    head = [f"POST {INFER} HTTP/1.1", "Host: x", *lines]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def read_answer(reader: BinaryIO) -> tuple[int, dict[str, str], bytes]:
    """One answer off a socket's file."""
    line = reader.readline()
    assert line.startswith(b"HTTP/1.1 "), line
    headers: dict[str, str] = {}
    while (header := reader.readline()) != b"\r\n":
        name, _, value = header.decode().strip().partition(": ")
        headers[name] = value
    return int(line.split()[1]), headers, reader.read(int(headers["content-length"]))


def exchange(client: socket.socket, data: bytes) -> tuple[int, dict[str, str], bytes]:
    client.sendall(data)
    with client.makefile("rb") as reader:
        return read_answer(reader)


def closes(client: socket.socket) -> bool:
    """Whether the other side ends the connection (after whatever it still sends)."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_pipelined_requests_are_answered_in_order(client: socket.socket, ask: Ask) -> None:
    """Also where a later one could be answered at once while the one before it is with a worker."""
    stream = b""
    for index in range(40):
        stream += post(ask([index] * 4, shape=[1, 4], id=str(index)))
        stream += b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    client.sendall(stream)
    with client.makefile("rb") as reader:
        for index in range(40):
            assert json.loads(read_answer(reader)[2])["id"] == str(index)
            assert json.loads(read_answer(reader)[2]) == {"live": True}


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_in_pieces(client: socket.socket, ask: Ask, size: int) -> None:
    data = post(ask([1, 2, 3, 4], shape=[1, 4]))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(data), size):
        client.sendall(data[at : at + size])
    with client.makefile("rb") as reader:
        assert read_answer(reader)[0] == 200


def test_a_chunked_body(client: socket.socket, ask: Ask) -> None:
    body = ask([1, 2, 3, 4], shape=[1, 4])
    chunks = [body[at : at + 11] for at in range(0, len(body), 11)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert exchange(client, post(coded, "Transfer-Encoding: chunked"))[0] == 200
    assert exchange(client, post(body))[0] == 200, "the connection goes on"


def test_expect_100_continue(client: socket.socket, ask: Ask) -> None:
    body = ask([1, 2, 3, 4], shape=[1, 4])
    client.sendall(post(b"", "Expect: 100-continue", f"Content-Length: {len(body)}"))
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert exchange(client, body)[0] == 200


def test_http_1_0_and_connection_close(gateway: GatewayProcess) -> None:
    for line in (b"GET /v2 HTTP/1.0\r\n\r\n", b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        with socket.create_connection(gateway.address, timeout=60) as client:
            status, headers, _ = exchange(client, line)
            assert (status, headers["connection"]) == (200, "close")
            assert closes(client)


def test_an_offer_to_upgrade_is_ignored(client: socket.socket, ask: Ask) -> None:
    """As some clients begin every connection; with the next request right behind it."""
    lines = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    client.sendall(post(ask([1, 2, 3, 4], shape=[1, 4]), *lines) + b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
    with client.makefile("rb") as reader:
        assert [read_answer(reader)[0] for _ in range(2)] == [200, 200]
    client.sendall(b"GET /v2 HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n")
    assert exchange(client, b"\r\n")[0] == 200


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"hello\r\n\r\n", 400, "malformed HTTP request"),
        (b"GET /v2 HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed HTTP request"),
        (post(b"", "Content-Length: 5", "Transfer-Encoding: chunked"), 400, "malformed HTTP request"),
        (post(b"", "Content-Length: 5", "Content-Length: 6"), 400, "malformed HTTP request"),
        (post(b"", "Content-Length: -1"), 400, "malformed HTTP request"),
        (post(b"", "Content-Length: 99999999999999999999999"), 400, "malformed HTTP request"),
        (post(b"zz\r\n", "Transfer-Encoding: chunked"), 400, "malformed HTTP request"),
        (post(b"", "Transfer-Encoding: gzip"), 400, "malformed HTTP request"),
        (post(b"{}", "Content-Type: a", "content-type: b"), 400, "header content-type is given twice"),
        (post(b"", "Content-Length: 67108865"), 413, "the body has 67108865 bytes, at most 67108864 are taken"),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", 431, "request line and headers are too large"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431, "request line and headers are too large"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "this is no proxy"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed HTTP request"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(
    gateway: GatewayProcess, client: socket.socket, data: bytes, status: int, says: str
) -> None:
    got, headers, body = exchange(client, data)
    assert got == status
    assert says in json.loads(body)["error"]
    assert headers["connection"] == "close"
    assert closes(client)
    assert gateway.request("GET", "/v2/health/live").status == 200


def test_an_error_comes_after_the_answers_before_it(client: socket.socket, ask: Ask) -> None:
    client.sendall(post(ask([1, 2, 3, 4], shape=[1, 4])) + b"GARBAGE\r\n\r\n")
    with client.makefile("rb") as reader:
        assert [read_answer(reader)[0] for _ in range(2)] == [200, 400]
        assert reader.read() == b""


def test_a_client_that_goes_on_sending_can_read_why_it_was_refused(launch: Launch) -> None:
    """Closing a socket with unread bytes resets it, which would destroy the answer on its way."""
    gateway = launch("--body-max-mib", "1")
    with socket.create_connection(gateway.address, timeout=60) as client:
        client.sendall(post(b"", "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        try:
            for _ in range(64):
                client.sendall(chunk)
        except OSError:
            pass  # it may be closed by now, with the answer in our buffer
        with client.makefile("rb") as reader:
            status, _, body = read_answer(reader)
    assert status == 413
    assert json.loads(body)["error"] == "the body has more than 1048576 bytes"


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/", 404, "nothing is at /"),
        ("GET", "/v2/models//infer", 404, "nothing is at"),
        ("GET", "/v2/models/nobody", 404, "Request for unknown model: 'nobody' is not found"),
        (
            "POST",
            "/v2/models/scale/versions/9/infer",
            404,
            "unknown model: 'scale' version '9' is not found",
        ),
        ("GET", INFER, 405, "takes POST only"),
        ("HEAD", "/v2", 405, ""),
        ("DELETE", "/v2/models/scale", 405, "takes GET only"),
        ("POST", INFER, 400, "is not a v2 infer request"),
    ],
)
def test_wrong_paths_and_verbs(gateway: GatewayProcess, method: str, path: str, status: int, says: str) -> None:
    answer = gateway.request(method, path, b"{" if method == "POST" else b"")
    assert answer.status == status
    if status == 405:
        assert answer.headers["allow"] in ("GET", "POST")
    if says:
        assert says in answer.error


def test_pages_of_browsers_are_refused(gateway: GatewayProcess) -> None:
    answer = gateway.request("GET", "/v2", headers={"Origin": "http://evil.example"})
    assert (answer.status, answer.error) == (403, "requests of web pages are not taken")


def test_compressed_requests(gateway: GatewayProcess, ask: Ask) -> None:
    import gzip

    body = gzip.compress(ask([1, 2, 3, 4], shape=[1, 4]))
    assert gateway.infer("scale", body, {"Content-Encoding": "gzip"}).status == 200
    answer = gateway.infer("scale", body[:-4], {"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (400, "the gzip body is cut short or followed by other bytes")
    assert gateway.infer("scale", body, {"Content-Encoding": "br"}).status == 400


def test_the_unix_socket_serves_too(gateway: GatewayProcess, ask: Ask) -> None:
    with closing(UnixConnection(gateway.file.inference)) as connection:
        assert send(connection, "POST", INFER, ask([1, 2, 3, 4], shape=[1, 4])).status == 200
        assert send(connection, "GET", "/admin/health").status == 404, "admin has a socket of its own"


def test_random_bytes_hurt_nobody(gateway: GatewayProcess, count_case: Callable[[], None]) -> None:
    """Requests cut, joined and spoilt at random; the gateway answers, closes or waits, and goes on with others."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    whole = post(b'{"inputs": []}') + b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(150):
        data = bytearray(whole * rng.randint(1, 3))
        for _ in range(rng.randint(0, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        del data[rng.randint(1, len(data)) :]
        with socket.create_connection(gateway.address, timeout=60) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert closes(client), f"seed {seed}"
        count_case()
    assert gateway.request("GET", "/v2/health/live").status == 200, f"seed {seed}"
    assert gateway.request("GET", "/v2/health/ready").status == 200, f"seed {seed}"


def test_too_many_connections_are_closed(launch: Launch) -> None:
    gateway = launch("--connections-max", "3")
    clients = [socket.create_connection(gateway.address, timeout=60) for _ in range(5)]
    try:
        refused = 0
        for client in clients:
            try:
                refused += exchange(client, b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")[0] != 200
            except (OSError, AssertionError):
                refused += 1
        assert refused == 2
    finally:
        for client in clients:
            client.close()


def test_too_many_requests_are_refused_with_a_time_to_come_back(
    launch: Launch, predictors: object, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors), "--in-flight-max", "3")
    gateway.serve("m", moody)
    body = ask([9, 1.0], datatype="FP64")
    with _asked(gateway, body, 3):
        wait_until(lambda: gateway.report("m").stats.in_flight == 3, "three requests in the worker")
        answer = gateway.infer("moody", body)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.error == "3 requests are being handled, no more are taken now"


def test_a_full_queue_is_refused(launch: Launch, predictors: object, moody: ServingSpec, ask: Ask) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("m", ServingSpec(model="moody", path=moody.path, plugin="python", in_flight_max=1, queue_max=2))
    with _asked(gateway, ask([9, 1.0], datatype="FP64"), 3):
        wait_until(lambda: gateway.report("m").stats.queue == 2, "two requests to wait")
        answer = gateway.infer("moody", ask([1], datatype="FP64"))
    assert (answer.status, answer.error) == (503, "2 requests wait for 'moody' already")


def test_a_request_that_waits_too_long_is_refused(
    launch: Launch, predictors: object, moody: ServingSpec, ask: Ask
) -> None:
    gateway = launch("--predictors", str(predictors), "--queue-s-max", "0.2")
    gateway.serve("m", ServingSpec(model="moody", path=moody.path, plugin="python", in_flight_max=1))
    with _asked(gateway, ask([9, 2.0], datatype="FP64"), 1):
        wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to be busy")
        answer = gateway.infer("moody", ask([1], datatype="FP64"))
        assert (answer.status, answer.error) == (503, "waited 0.2 s for a worker of 'moody'")


def test_a_client_that_leaves_frees_its_place(launch: Launch, predictors: object, moody: ServingSpec, ask: Ask) -> None:
    gateway = launch("--predictors", str(predictors))
    gateway.serve("m", ServingSpec(model="moody", path=moody.path, plugin="python", in_flight_max=1))
    with _asked(gateway, ask([9, 0.5], datatype="FP64"), 1):
        wait_until(lambda: gateway.report("m").stats.in_flight == 1, "the worker to be busy")
        with _asked(gateway, ask([3], datatype="FP64"), 1):
            wait_until(lambda: gateway.report("m").stats.queue == 1, "the second to wait")
        # It left, so the worker must never see its request, which would kill it.
        assert gateway.infer("moody", ask([21], datatype="FP64")).status == 200
    assert gateway.report("m").restarts == 0


class _asked:  # noqa: N801  # reads as a word in `with _asked(…)`
    """Clients that have sent a request each and leave at the end of the block."""

    def __init__(self, gateway: GatewayProcess, body: bytes, count: int) -> None:
        self.clients = [gateway.connect() for _ in range(count)]
        for client in self.clients:
            client.request("POST", "/v2/models/moody/infer", body)

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()


@pytest.mark.slow
def test_slow_clients_are_cut_off(gateway: GatewayProcess) -> None:
    """The head must be there within 10 s of the first byte, however the client trickles."""
    started_s = time.monotonic()
    with socket.create_connection(gateway.address, timeout=30) as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\n")
        with client.makefile("rb") as reader:
            status, _, body = read_answer(reader)
            assert reader.read() == b""
    assert (status, json.loads(body)["error"]) == (408, "the request took too long to arrive")
    assert time.monotonic() - started_s < 20
