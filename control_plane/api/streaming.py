"""Keeps a stream of the API going over breaks: comes back where it was, with a random, bounded pause."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel

from ...descriptions.errors import TransportError
from .answers import Problem
from .route import Route
from .sse import ServerEvent
from .transport import BACKOFF_S, BACKOFF_S_MAX, ApiError, Request, Transport

BREAKS_MAX = 10
"""Breaks in a row, without an event between them, after which the stream counts as lost."""


async def follow(transport: Transport, route: Route[Any], query: BaseModel) -> AsyncIterator[ServerEvent]:
    """Events of a stream, bookmarks included.

    Raises `ApiError` (410) when the server no longer has what was missed, `TransportError` when it stays away.
    """
    last, breaks = "", 0
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            async for event in transport.stream(route, Request(query=query, headers=headers)):
                if event.event in ("resync", "error"):
                    raise ApiError(Problem.model_validate_json(event.data))
                last, breaks = event.id or last, 0
                yield event
        except TransportError:
            if breaks >= BREAKS_MAX:
                raise
        breaks += 1
        await asyncio.sleep(random.uniform(0, min(BACKOFF_S_MAX, BACKOFF_S * 2**breaks)))
