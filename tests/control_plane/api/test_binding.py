"""Where the API may be served and for whom: loopback, TLS, plain text, without tokens."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shoal.control_plane.api.auth import is_loopback
from shoal.control_plane.api.client import Client
from shoal.control_plane.api.server import ApiOptions, check_binding
from shoal.descriptions.errors import DescriptionError, TransportError
from shoal.descriptions.kinds import Node

PEM = Path("server.pem")


@pytest.mark.parametrize(
    "options",
    [
        ApiOptions(),
        ApiOptions(host="localhost", insecure=True),
        ApiOptions(host="::1", insecure=True),
        ApiOptions(host="127.9.9.9"),
        ApiOptions(host="0.0.0.0", tls_certificate=PEM, tls_key=PEM),
        ApiOptions(host="192.0.2.1", allow_plaintext=True),
    ],
)
def test_safe_bindings_are_accepted(options: ApiOptions) -> None:
    check_binding(options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (ApiOptions(host="0.0.0.0"), "without TLS"),
        (ApiOptions(host="::"), "without TLS"),
        (ApiOptions(host="192.0.2.1"), "without TLS"),
        (ApiOptions(host="shoal.example"), "without TLS"),
        (ApiOptions(host="0.0.0.0", insecure=True), "without tokens"),
        (ApiOptions(host="0.0.0.0", insecure=True, allow_plaintext=True), "without tokens"),
        (ApiOptions(host="0.0.0.0", insecure=True, tls_certificate=PEM, tls_key=PEM), "without tokens"),
        (ApiOptions(tls_certificate=PEM), "its key"),
    ],
)
def test_unsafe_bindings_are_refused(options: ApiOptions, told: str) -> None:
    with pytest.raises(DescriptionError, match=told):
        check_binding(options)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("localhost.evil", False),
        ("", False),
    ],
)
def test_loopback_is_told_apart(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:7400"}, 200),
        ({"Host": "[::1]:7400"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:7400"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Authorization": "Bearer nonsense"}, 401),
    ],
)
def test_without_tokens_pages_from_elsewhere_get_nothing(serve: Any, headers: dict[str, str], status: int) -> None:
    async def run() -> None:
        async with serve(insecure=True) as served:
            assert (await served.ask("GET", "/v1/nodes", role=None, **headers)).status == status

    asyncio.run(run())


def test_without_tokens_everybody_here_is_the_admin_and_audited(serve: Any) -> None:
    async def run() -> None:
        async with serve(insecure=True) as served:
            created = await served.ask("POST", "/v1/tokens", {"role": "viewer", "subject": "x"}, role=None)
            assert created.status == 201
            rows = (await served.ask("GET", "/v1/audit", role=None)).json["items"]
            assert rows[0]["actor"] == "insecure"
            viewer = {"Authorization": f"Bearer {created.json['token']}"}
            assert (await served.ask("GET", "/v1/audit", role=None, **viewer)).status == 403, "a token still counts"

    asyncio.run(run())


def test_a_taken_port_is_told(serve: Any) -> None:
    async def run() -> None:
        async with serve() as served:
            port = int(served.url.rpartition(":")[2])
            with pytest.raises(TransportError, match=str(port)):
                await type(served.server)(served.store, served.services, ApiOptions(port=port)).start()

    asyncio.run(run())


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shoal test")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
    return paths


def test_tls_is_served_and_checked(serve: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)

    async def run() -> None:
        async with serve(tls_certificate=cert, tls_key=key, host="localhost") as served:
            assert served.url.startswith("https://localhost:")
            token = next(iter(served.headers().values())).removeprefix("Bearer ")
            async with Client(served.url, token, ca=str(cert)) as client:
                assert await client.list(Node) == ()
            async with Client(served.url, token) as distrustful:
                with pytest.raises(TransportError):
                    await distrustful.list(Node)
            old = ssl.create_default_context(cafile=str(cert))
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            async with aiohttp.ClientSession() as http, http.get(f"{served.url}/healthz", ssl=old) as answer:
                assert answer.status == 200

    asyncio.run(run())


def test_a_certificate_that_is_none_is_told(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")

    async def run() -> None:
        async with serve(tls_certificate=tmp_path / "cert.pem", tls_key=tmp_path / "cert.pem"):
            pass

    with pytest.raises(DescriptionError, match=r"cert\.pem"):
        asyncio.run(run())
