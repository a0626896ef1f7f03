"""Sends a file's bytes whole or in one range (RFC 9110 §14), with its digest as the entity tag.

A request for several ranges gets the whole, as the RFC allows; `If-Range` with another tag gets the whole too.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError

from ...store.blobs import Blob
from ..call import Call, Reply
from ..problems import status_reply

CHUNK_BYTES = 1024 * 1024

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end`, the latter excluded."""

    start: int
    end: int


def span_of(header: str, size: int) -> Span | None:
    """The range that a header asks for; None for the whole. An unsatisfiable one is an empty span."""
    parts = _RANGE.fullmatch(header.strip())
    if parts is None:
        return None
    first, last, suffix = parts.groups()
    if suffix is not None:
        return Span(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return Span(int(first), min(size, int(last) + 1) if last else size)


async def send_blob(call: Call, blob: Blob) -> Reply | web.StreamResponse:
    """The answer to a GET of contents: 200, 206, or 416."""
    asked = call.http.headers.get("Range", "")
    if_range = call.http.headers.get("If-Range", "")
    tag = f'"{blob.sha256}"'
    span = span_of(asked, blob.size) if asked and if_range in ("", tag) else None
    if span is not None and span.start >= span.end:
        told = f"the contents are {blob.size} bytes long"
        refusal = status_reply(416, "range", told, call.request_id, call.http.path)
        unit = ("Content-Range", f"bytes */{blob.size}")
        return Reply(refusal.body, 416, (*refusal.headers, unit), refusal.content_type)
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, immutable, max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": call.request_id,
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{blob.size}"
    return await _send(call, blob, span or Span(0, blob.size), 206 if span else 200, headers)


async def _send(call: Call, blob: Blob, span: Span, status: int, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = span.end - span.start
    with blob.path.open("rb") as file:
        file.seek(span.start)
        await response.prepare(call.http)
        left = span.end - span.start
        try:
            while left and (chunk := await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))):
                await response.write(chunk)
                left -= len(chunk)
        except ClientConnectionResetError:
            return response  # The client went away; it will ask for the rest.
    await response.write_eof()
    return response
