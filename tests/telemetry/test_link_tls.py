"""TLS: the handshake runs on the event loop, certificates are checked, and there is no way to switch that off."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shoal.telemetry.link import Link, LinkOptions, LinkState


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{address}.pem", folder / f"{address}.key"
    certificate_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that answers CONNECT and sends one large message, larger than a TLS record."""
    await reader.read(1)
    payload = b"x" * 200_000
    body = b"\x00\x01t" + payload
    length = bytes((len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14))
    writer.write(b"\x20\x02\x00\x00\x30" + length + body)
    while await reader.read(4096):
        pass
    writer.close()


async def try_connect(folder: Path, issued_for: str, trusted: str | None) -> tuple[int, str]:
    """Bytes received, or the error."""
    certificate_file, key_file = certificate(folder, issued_for)
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate_file, key_file)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server_tls)
    client_tls = None if trusted is None else ssl.create_default_context(cafile=trusted)
    async with asyncio.timeout(20.0), server:
        url = f"mqtts://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Link(LinkOptions(url, "n1", tls=client_tls, backoff_base_s=30.0)) as link:
            await link.wait_for(LinkState.CONNECTING)
            while link.counters.connect_failures == 0 and link.counters.received == 0:
                await asyncio.sleep(0.005)
            message = await link.receive() if link.counters.received else None
            return (len(message.payload) if message else 0), link.last_error


def test_a_trusted_certificate_connects(tmp_path: Path) -> None:
    size, error = asyncio.run(try_connect(tmp_path, "127.0.0.1", str(tmp_path / "127.0.0.1.pem")))
    assert (size, error) == (200_000, "")


@pytest.mark.parametrize("trusted", [None, "other"], ids=["system's", "another CA"])
def test_an_untrusted_certificate_is_refused(tmp_path: Path, trusted: str | None) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cafile = str(certificate(other, "127.0.0.1")[0]) if trusted else None
    size, error = asyncio.run(try_connect(tmp_path, "127.0.0.1", cafile))
    assert size == 0
    assert "certificate verify failed" in error


def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    size, error = asyncio.run(try_connect(tmp_path, "192.0.2.1", str(tmp_path / "192.0.2.1.pem")))
    assert size == 0
    assert "IP address mismatch" in error
