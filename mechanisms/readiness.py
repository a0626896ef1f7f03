"""Whether a process answers: a TCP connection to its port on loopback, or an HTTP GET that gives 2xx."""

from __future__ import annotations

import asyncio
import contextlib

TIMEOUT_S = 1.0
STATUS_LINE_MAX = 512


async def answers(port: int, path: str = "", timeout_s: float = TIMEOUT_S) -> bool:
    """One attempt; false for refusal, silence and nonsense."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=STATUS_LINE_MAX)
            try:
                return not path or await _is_ok(reader, writer, port, path)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False


async def _is_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, path: str) -> bool:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode("ascii"))
    await writer.drain()
    parts = (await reader.readline()).split()
    return len(parts) >= 2 and parts[0].startswith(b"HTTP/1.") and parts[1].isdigit() and parts[1][:1] == b"2"
