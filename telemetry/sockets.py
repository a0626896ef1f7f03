"""A connected, non-blocking socket from a host and a port, TLS included, without a thread and with cancellation.

The MQTT link needs a plain socket (paho reads and writes it itself), so asyncio's streams do not fit. Deadlines are
the caller's: wrap the call in `asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl

USER_TIMEOUT_OPTION: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


async def open_socket(
    host: str, port: int, tls: ssl.SSLContext | None, user_timeout_s: float
) -> socket.socket | ssl.SSLSocket:
    """Connect to the first address that answers; `OSError` (or `ssl.SSLError`) of the last one that did not."""
    error: OSError = OSError(f"{host} has no address")
    for family, address in await _resolve(host, port):
        try:
            return await _connect(family, address, host, tls, user_timeout_s)
        except OSError as failure:
            error = failure
    raise error


async def _resolve(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    with contextlib.suppress(ValueError):
        family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
        return [(family, (host, port))]  # no thread for what needs no resolver
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _connect(
    family: int, address: tuple[object, ...], host: str, tls: ssl.SSLContext | None, user_timeout_s: float
) -> socket.socket | ssl.SSLSocket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if USER_TIMEOUT_OPTION is not None:
            sock.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT_OPTION, int(user_timeout_s * 1000))
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock if tls is None else await _handshake(sock, host, tls)
    except BaseException:
        sock.close()
        raise


async def _handshake(sock: socket.socket, host: str, tls: ssl.SSLContext) -> ssl.SSLSocket:
    wrapped = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                wrapped.do_handshake()
                return wrapped
            except ssl.SSLWantReadError:
                await _ready(wrapped, for_write=False)
            except ssl.SSLWantWriteError:
                await _ready(wrapped, for_write=True)
    except BaseException:
        wrapped.close()
        raise


async def _ready(sock: socket.socket, *, for_write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if for_write else (loop.add_reader, loop.remove_reader)
    add(sock.fileno(), _settle, ready)
    try:
        await ready
    finally:
        remove(sock.fileno())


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
