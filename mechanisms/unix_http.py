"""One HTTP/1.1 request over a Unix socket, on the event loop, with a deadline and a cap: the gateway's admin API.

`inference.py` calls it. The gateway answers with Content-Length, so nothing more of HTTP is needed here.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from ..descriptions.errors import TransportError

TIMEOUT_S = 5.0
BODY_MAX = 4 * 1024 * 1024
HEAD_LINES_MAX = 64


@dataclass(frozen=True)
class Answer:
    """Status and body."""

    status: int
    body: bytes


async def ask(socket: Path, method: str, target: str, body: bytes = b"", timeout_s: float = TIMEOUT_S) -> Answer:
    """Send and read; `TransportError` when nobody answers in time or with sense."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                head = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body)
                await writer.drain()
                return await _read(reader)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError) as error:
        told = str(error) or type(error).__name__
        raise TransportError(f"{socket}: {method} {target}: {told}") from error


async def _read(reader: asyncio.StreamReader) -> Answer:
    status = int((await reader.readline()).split()[1])
    length = 0
    for _ in range(HEAD_LINES_MAX):
        name, _, value = (await reader.readline()).decode("latin-1").partition(":")
        if name.lower() == "content-length":
            length = int(value)
        if not name.strip():
            break
    if not 0 <= length <= BODY_MAX:
        raise ValueError(f"a body of {length} bytes")
    return Answer(status, await reader.readexactly(length))
