"""Finding a control plane by zeroconf, with a real announcement on this machine's network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from shoal.agents.discovery import SERVICE, Found, discover
from shoal.descriptions.errors import TransportError

pytestmark = pytest.mark.system


@asynccontextmanager
async def announced(**properties: str) -> AsyncIterator[None]:
    """A control plane that says where it is, as long as the block lasts."""
    name = properties.get("slice", "nobody")
    info = ServiceInfo(
        SERVICE, f"{name}.{SERVICE}", 7400, addresses=[socket.inet_aton("127.0.0.1")], properties=properties
    )
    async with AsyncZeroconf() as network:
        await (await network.async_register_service(info))
        try:
            yield
        finally:
            await (await network.async_unregister_service(info))


@pytest.mark.parametrize("wanted", ["", "test-slice"])
def test_a_control_plane_is_found(wanted: str) -> None:
    async def test() -> None:
        async with announced(url="https://plane.example:7400", slice="test-slice"):
            assert await discover(wanted, 15.0) == Found("https://plane.example:7400", "test-slice")

    asyncio.run(test())


def test_other_slices_and_strangers_are_left_out() -> None:
    async def test() -> None:
        async with announced(url="https://plane.example:7400", slice="other"), announced(colour="blue"):
            with pytest.raises(TransportError, match="no control plane of slice 'mine'"):
                await discover("mine", 2.0)

    asyncio.run(test())
