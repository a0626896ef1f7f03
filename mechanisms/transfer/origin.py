"""Which URLs a node may fetch from, and a connection that keeps to it: TLS, no redirects, no way into the node itself.

A description off the network names URLs, so they are treated as hostile: `https` anywhere but the node's own loopback
and link-local addresses (cloud metadata lives there); `http` and loopback only where the control plane itself is. What
a name resolves to is checked on the connected socket, so that DNS cannot change its answer in between. Blocking: call
in a thread.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ...descriptions.errors import RefusedError, TransportError

URL_MAX = 4096


@dataclass(frozen=True)
class Address:
    """A URL that may be fetched, taken apart."""

    host: str
    port: int
    is_tls: bool
    target: str
    """Path and query."""
    is_control_plane: bool
    """Of the same origin as the control plane: it gets the bearer token."""


@dataclass(frozen=True)
class Origins:
    """Where bytes may come from."""

    control_plane_url: str
    ca: Path | None = None
    """PEM file that signs the control plane's certificate; other hosts are checked by the system's authorities."""
    plain_http: bool = False
    """The operator allows plain HTTP to the control plane."""
    token: str = field(default="", repr=False)
    """Bearer token, shown to the control plane alone."""

    def authorization(self, address: Address) -> dict[str, str]:
        """The header for a request to this address; none for anybody but the control plane."""
        return {"Authorization": f"Bearer {self.token}"} if address.is_control_plane and self.token else {}

    def address(self, url: str) -> Address:
        """Check a URL, or a path on the control plane; raises `RefusedError` with the reason."""
        if len(url) > URL_MAX or any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
            raise RefusedError("not a URL: too long, or with letters that URLs don't have")
        own = _split(self.control_plane_url) if self.control_plane_url else None
        if url.startswith("/") and not url.startswith("//"):
            if own is None:
                raise RefusedError(f"{url} is a path on the control plane, which is not known")
            host, port, is_tls, _ = own
            target = url
        else:
            host, port, is_tls, target = _split(url)
        is_own = own is not None and (host, port, is_tls) == own[:3]
        if not is_tls and not _is_loopback_name(host) and not (is_own and self.plain_http):
            raise RefusedError(f"http://{host}:{port} is not encrypted; only https is fetched from other machines")
        return Address(host, port, is_tls, target, is_own)

    def connect(self, address: Address, timeout_s: float) -> http.client.HTTPConnection:
        """An open connection; the timeout is for each wait on the socket. Raises `TransportError` or `RefusedError`."""
        try:
            connection = self._connection(address, timeout_s)
            connection.connect()
        except (OSError, ValueError) as error:
            raise TransportError(f"{address.host}:{address.port}: {error}") from error
        try:
            self._check_peer(connection.sock, address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connection(self, address: Address, timeout_s: float) -> http.client.HTTPConnection:
        if not address.is_tls:
            return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
        own_ca = str(self.ca) if self.ca is not None and address.is_control_plane else None
        context = ssl.create_default_context(cafile=own_ca)
        return http.client.HTTPSConnection(address.host, address.port, timeout=timeout_s, context=context)

    def _check_peer(self, peer: socket.socket, address: Address) -> None:
        """The address that was really reached; the control plane's own is the operator's choice."""
        if address.is_control_plane:
            return
        found = ipaddress.ip_address(peer.getpeername()[0].partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None) or found
        if mapped.is_link_local:
            raise RefusedError(f"{address.host} is {mapped}, a link-local address")
        if mapped.is_loopback and not self._is_control_plane_local():
            raise RefusedError(f"{address.host} is {mapped}, this node itself")

    def _is_control_plane_local(self) -> bool:
        return bool(self.control_plane_url) and _is_loopback_name(_split(self.control_plane_url)[0])


def _split(url: str) -> tuple[str, int, bool, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RefusedError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise RefusedError(f"{url[:120]!r} is not fetched; only https:// is (http:// on loopback)")
    if parts.username is not None or parts.password is not None:
        raise RefusedError("a URL with a user name in it is not fetched")
    is_tls = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host.lower(), port or (443 if is_tls else 80), is_tls, target


def _is_loopback_name(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
