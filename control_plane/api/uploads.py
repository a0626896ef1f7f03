"""Sends a file as a model's contents: digest first, so that a broken upload goes on where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from ...descriptions.errors import TransportError
from . import object_routes
from .answers import ContentReceived
from .requests import ContentQuery
from .transport import BACKOFF_S, ApiError, Request, Transport

CHUNK_BYTES = 256 * 1024
BREAKS_MAX = 5

Progress = Callable[[int, int], None]


async def upload(transport: Transport, model: str, path: Path, progress: Progress) -> ContentReceived:
    """Send `path`. Raises `ApiError` when refused, `TransportError` when it broke off too often."""
    sha256, size = await asyncio.to_thread(_digest, path)
    offset, breaks = 0, 0
    while True:
        query = ContentQuery(sha256=sha256, size=size, offset=offset)
        body = _chunks(path, offset, size, progress)
        try:
            return await transport.call(object_routes.PUT_CONTENT, Request({"name": model}, query, body))
        except ApiError as error:
            if error.code != "upload-offset" or breaks >= BREAKS_MAX:
                raise
            offset = offset if error.problem.received is None else error.problem.received
        except TransportError:
            if breaks >= BREAKS_MAX:
                raise
            offset = 1 if size else 0  # Most likely the wrong place: the refusal says the right one.
        breaks += 1
        await asyncio.sleep(random.uniform(0, BACKOFF_S * 2**breaks))


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


async def _chunks(path: Path, offset: int, size: int, progress: Progress) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        progress(offset, size)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
            offset += len(chunk)
            progress(offset, size)
