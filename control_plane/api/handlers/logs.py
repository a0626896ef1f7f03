"""Log lines of nodes and components, at once or as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from ..answers import LogLine, LogLines
from ..call import Call, Reply, json_reply
from ..context import Context
from ..refusals import InvalidError
from ..requests import LogQuery
from .streams import EventStream

LINES_MAX = 10_000


async def read_logs(context: Context, call: Call) -> Reply | web.StreamResponse:
    """The last lines, or a stream that begins with them."""
    asked = call.query_as(LogQuery)
    if (asked.node is None) == (asked.component is None) or (asked.component is None) != (asked.application is None):
        raise InvalidError("name a node, or an application and its component")
    if asked.follow:
        return await _follow(context, call, asked)
    lines: list[LogLine] = []
    async for line in context.services.logs(asked):
        lines.append(line)
        if len(lines) >= LINES_MAX:
            break
    return json_reply(LogLines(lines=tuple(lines)))


async def _follow(context: Context, call: Call, asked: LogQuery) -> web.StreamResponse:
    stream = EventStream(context, call)
    lines = context.services.logs(asked)

    async def tell() -> None:
        waiting: asyncio.Task[LogLine | None] | None = None
        try:
            while True:
                waiting = waiting or asyncio.create_task(_next(lines), name="log-line")
                done, _ = await asyncio.wait({waiting}, timeout=context.limits.heartbeat_s)
                await stream.check_token()
                if not done:
                    await stream.breathe()
                    continue
                line, waiting = waiting.result(), None
                if line is None:
                    return
                await stream.send("line", line.model_dump_json(by_alias=True).encode())
        finally:
            if waiting is not None:
                waiting.cancel()

    return await stream.run(tell)


async def _next(lines: AsyncIterator[LogLine]) -> LogLine | None:
    return await anext(lines, None)
