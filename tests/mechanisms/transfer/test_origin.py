"""Which URLs a node fetches from, and what a hostile name or redirect cannot reach."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.descriptions.errors import RefusedError, TransportError
from shoal.mechanisms.transfer.origin import Address, Origins

LOCAL = Origins("http://127.0.0.1:7400", token="secret")
REMOTE = Origins("https://control.example:7400", token="secret")


@pytest.mark.parametrize(
    ("origins", "url", "address"),
    [
        (LOCAL, "/v1/blobs/abc?x=1", Address("127.0.0.1", 7400, False, "/v1/blobs/abc?x=1", True)),
        (LOCAL, "http://127.0.0.1:9/m", Address("127.0.0.1", 9, False, "/m", False)),
        (LOCAL, "http://localhost/m", Address("localhost", 80, False, "/m", False)),
        (REMOTE, "https://MODELS.example/m", Address("models.example", 443, True, "/m", False)),
        (REMOTE, "https://control.example:7400/v1/x", Address("control.example", 7400, True, "/v1/x", True)),
        (REMOTE, "/v1/x", Address("control.example", 7400, True, "/v1/x", True)),
        (
            Origins("http://10.0.0.1:7400", plain_http=True),
            "http://10.0.0.1:7400/x",
            Address("10.0.0.1", 7400, False, "/x", True),
        ),
    ],
)
def test_allowed(origins: Origins, url: str, address: Address) -> None:
    assert origins.address(url) == address


@pytest.mark.parametrize(
    ("origins", "url", "reason"),
    [
        (REMOTE, "http://models.example/m", "not encrypted"),
        (Origins("http://10.0.0.1:7400"), "/x", "not encrypted"),
        (Origins("http://10.0.0.1:7400", plain_http=True), "http://10.0.0.2:7400/x", "not encrypted"),
        (LOCAL, "ftp://127.0.0.1/x", "only https"),
        (LOCAL, "file:///etc/passwd", "only https"),
        (LOCAL, "//evil.example/x", "only https"),
        (LOCAL, "x", "only https"),
        (LOCAL, "", "only https"),
        (REMOTE, "https://user:word@models.example/m", "user name"),
        (REMOTE, "https://models.example/a b", "letters that URLs don't have"),
        (REMOTE, "https://models.example/\r\nHost: x", "letters that URLs don't have"),
        (REMOTE, "https://models.example:99999/", "not a URL"),
        (REMOTE, "https://" + "a" * 5000, "too long"),
        (Origins(""), "/v1/x", "not known"),
    ],
)
def test_refused(origins: Origins, url: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        origins.address(url)


def test_the_token_is_for_the_control_plane_alone() -> None:
    assert REMOTE.authorization(REMOTE.address("/v1/x")) == {"Authorization": "Bearer secret"}
    assert REMOTE.authorization(REMOTE.address("https://models.example/m")) == {}
    assert REMOTE.authorization(REMOTE.address("https://control.example/m")) == {}  # another port
    assert "secret" not in repr(REMOTE)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_remote_control_plane_cannot_send_a_node_to_itself(listening: int, host: str) -> None:
    """Checked on the connected socket: whatever the name was, it leads to this machine."""
    address = Address(host, listening, False, "/", False)
    with pytest.raises(RefusedError, match="this node itself"):
        REMOTE.connect(address, 5.0)
    LOCAL.connect(address, 5.0).close()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TransportError, match=f"127.0.0.1:{port}"):
        LOCAL.connect(Address("127.0.0.1", port, False, "/", False), 5.0)


def test_a_missing_authority_file_is_an_error_of_transport(tmp_path: Path) -> None:
    origins = Origins("https://127.0.0.1:1", tmp_path / "missing.pem")
    with pytest.raises(TransportError):
        origins.connect(origins.address("/x"), 5.0)
