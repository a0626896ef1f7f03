"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): one open stream to one client.

A stream says that it is alive when nothing happens, checks its token again while it is open, and tells why it ends,
because its status line is long gone by then. `watching.py`, `events.py` and `logs.py` put things on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec
from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError

from ....descriptions.errors import ShoalError
from ...store.errors import HistoryError
from ..call import Call
from ..context import Context
from ..problems import problem_reply
from ..refusals import InvalidError, UnauthorizedError
from ..requests import VERSION_MAX

V_co = TypeVar("V_co", covariant=True)
V = TypeVar("V")

RETRY_MS = 1000
"""How soon a browser's EventSource comes back after a break."""


class Followed(Protocol, Generic[V_co]):
    """A watch of the store, as far as it is needed here."""

    @property
    def version(self) -> int:
        """Everything up to here has been handed out."""
        ...

    async def batch(self, wait_s: float | None = None) -> Sequence[V_co]:
        """What comes within the time."""
        ...


class EventStream:
    """An open stream to one client."""

    def __init__(self, context: Context, call: Call) -> None:
        self._context = context
        self._call = call
        self._clock = asyncio.get_running_loop().time
        self._checked_s = self._clock()
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Request-Id": call.request_id,
        }
        self._response = web.StreamResponse(headers=headers)

    async def run(self, tell: Callable[[], Awaitable[None]]) -> web.StreamResponse:
        """Send the head, let `tell` send the rest, and tell the client if that ends with a refusal."""
        await self._response.prepare(self._call.http)
        try:
            await self._write(f"retry: {RETRY_MS}\n\n".encode())
            try:
                await tell()
            except ShoalError as error:
                reply = problem_reply(error, self._call.request_id, self._call.http.path)
                await self.send("resync" if isinstance(error, HistoryError) else "error", reply.body)
        except (TimeoutError, ClientConnectionResetError):
            pass  # The client stopped reading, or went away.
        return self._response

    async def send(self, event: str, data: bytes, *, version: int | None = None) -> None:
        """Send one event. JSON has no line breaks, so one data line is enough."""
        numbered = b"" if version is None else f"id: {version}\n".encode()
        await self._write(numbered + f"event: {event}\n".encode() + b"data: " + data + b"\n\n")

    async def bookmark(self, version: int) -> None:
        """Tell how far the stream is, so that a client that resumes needn't hear the past again."""
        await self.send("bookmark", msgspec.json.encode({"resourceVersion": version}), version=version)

    async def breathe(self) -> None:
        """Say that the stream is alive."""
        await self._write(b": heartbeat\n\n")

    async def check_token(self) -> None:
        """Once per heartbeat: raises `UnauthorizedError` when the token behind the stream is revoked or expired."""
        if self._clock() - self._checked_s < self._context.limits.heartbeat_s:
            return
        self._checked_s = self._clock()
        if not await self._context.auth.still_counts(self._call.principal, self._call.http.headers):
            raise UnauthorizedError("the token of this stream is expired or revoked")

    async def follow(self, watch: Followed[V], tell: Callable[[V], Awaitable[None]]) -> None:
        """Send what the watch brings, without end."""
        told = watch.version
        while True:
            items = await watch.batch(self._context.limits.heartbeat_s)
            await self.check_token()
            for item in items:
                await tell(item)
            if not items and told == watch.version:
                await self.breathe()
            elif not items:
                await self.bookmark(watch.version)
            told = watch.version

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(self._context.limits.write_stall_s):
            await self._response.write(data)


def resume_version(call: Call, asked: int | None) -> int | None:
    """Where to start: `Last-Event-ID` if the client has one, else the query's version, else None."""
    last = call.http.headers.get("Last-Event-ID")
    if last is None:
        return asked
    if not (last.isascii() and last.isdigit()) or int(last) > VERSION_MAX:
        raise InvalidError("Last-Event-ID is a version as an earlier event gave it")
    return int(last)
