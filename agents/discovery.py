"""Finds the control plane on the local network by zeroconf: `_shoal._tcp.local.`, with TXT entries `url` and `slice`.

Only used where the configuration names no URL. An answer off the local network proves nothing, so `join.py` still
demands TLS (or the operator's `plainHttp`) before it shows the token. zeroconf is imported here, on use.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..descriptions.errors import TransportError

SERVICE = "_shoal._tcp.local."


@dataclass(frozen=True)
class Found:
    """A control plane that announces itself."""

    url: str
    slice: str


async def discover(slice_name: str, timeout_s: float) -> Found:
    """The first control plane of this slice (of any when empty); `TransportError` when none answers in time."""
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    names: asyncio.Queue[str] = asyncio.Queue(64)

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed and not names.full():
            names.put_nowait(name)

    try:
        async with asyncio.timeout(timeout_s), AsyncZeroconf() as network:
            browser = AsyncServiceBrowser(network.zeroconf, SERVICE, handlers=[changed])
            try:
                while True:
                    info = await network.async_get_service_info(SERVICE, await names.get(), 3000)
                    found = _found(info.properties) if info is not None else None
                    if found is not None and slice_name in ("", found.slice):
                        return found
            finally:
                await browser.async_cancel()
    except TimeoutError:
        wanted = f" of slice {slice_name!r}" if slice_name else ""
        raise TransportError(f"no control plane{wanted} announces itself on the local network") from None
    except OSError as error:
        raise TransportError(f"zeroconf: {error}") from error


def _found(properties: dict[bytes, bytes | None]) -> Found | None:
    url, name = properties.get(b"url"), properties.get(b"slice")
    if not url or name is None:
        return None
    return Found(url.decode("utf-8", "replace"), name.decode("utf-8", "replace"))
