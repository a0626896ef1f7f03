"""Announces the control plane on the local network as `_shoal._tcp.local.`, so that agents find it without a URL.

Off unless the operator turns it on. What is announced is only where to knock: joining still needs a token.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from zeroconf import IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

SERVICE = "_shoal._tcp.local."

logger = logging.getLogger(__name__)


@asynccontextmanager
async def announced(slice_name: str, url: str, version: str) -> AsyncIterator[None]:
    """Announce the API's URL for as long as the block lasts."""
    info = service_info(slice_name, url, version)
    zeroconf = AsyncZeroconf(ip_version=IPVersion.All)
    try:
        await zeroconf.async_register_service(info, allow_name_change=True)
        logger.info("slice=%s announced as %s", slice_name, info.name)
        yield
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


def service_info(slice_name: str, url: str, version: str) -> ServiceInfo:
    """What is announced: host and port of the URL, and the slice."""
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    return ServiceInfo(
        SERVICE,
        f"{slice_name}.{SERVICE}",
        addresses=_addresses(host),
        port=parts.port or (443 if parts.scheme == "https" else 80),
        properties={"slice": slice_name, "url": url, "version": version},
        server=f"{socket.gethostname().split('.')[0]}.local.",
    )


def _addresses(host: str) -> list[bytes]:
    try:
        return [ipaddress.ip_address(host).packed]
    except ValueError:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return sorted({ipaddress.ip_address(address[4][0]).packed for address in found})
