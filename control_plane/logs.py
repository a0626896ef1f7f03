"""Log lines of nodes and components, asked of the agents that have them: at once, or as they come.

Each node is asked by a `logs` command; whoever follows asks again with the cursor of the chunk before. Nothing is kept
here. Used by `services.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from ..descriptions.errors import ProtocolError, RefusedError, TransportError
from ..descriptions.messages.codec import decode
from ..descriptions.messages.logs import LogChunk, LogEntry, LogRequest
from .api.answers import LogLine
from .api.refusals import NotFoundError, UnavailableError
from .api.requests import LogQuery
from .node_commands import NodeCommands
from .rows import Rows

FOLLOW_S = 1.0
"""Between two questions to a node."""
NODES_MAX = 64
"""Nodes that are asked for one component's lines."""


@dataclass(frozen=True)
class Source:
    """One node with lines to give."""

    uid: str
    name: str
    request: LogRequest


@dataclass
class LogReader:
    """Reads logs off nodes."""

    rows: Callable[[], Rows]
    commands: NodeCommands

    async def read(self, query: LogQuery) -> AsyncGenerator[LogLine, None]:
        """The last lines, and with `follow` those that come. Raises `NotFoundError` or `UnavailableError`."""
        sources = self._sources(query)
        if not query.follow:
            for found in await asyncio.gather(*(self._last(source) for source in sources)):
                for line in found:
                    yield line
            return
        lines: asyncio.Queue[LogLine] = asyncio.Queue(1000)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow(source, lines), name=f"logs-{source.name}") for source in sources]
            try:
                while True:
                    yield await lines.get()
            finally:
                for task in tasks:
                    task.cancel()

    def _sources(self, query: LogQuery) -> Sequence[Source]:
        rows = self.rows()
        if query.node is not None:
            node = rows.nodes.get(query.node)
            if node is None or node.status is None or not node.status.uid:
                raise NotFoundError("Node", query.node)
            return [Source(node.status.uid, query.node, LogRequest(tail=query.tail))]
        key = (query.application or "", query.component or "")
        placements = [one for one in rows.placements_of(key) if query.replica in ("", one.id)]
        if not placements:
            raise NotFoundError("Component" if not query.replica else "Replica", query.replica or ".".join(key))
        nodes = sorted({(one.node_uid, one.node_name) for one in placements})[:NODES_MAX]
        request = LogRequest(replica=query.replica, component="" if query.replica else ".".join(key), tail=query.tail)
        return [Source(uid, name, request) for uid, name in nodes]

    async def _last(self, source: Source) -> list[LogLine]:
        chunk = await self._ask(source, source.request)
        return [_line(source, entry) for entry in chunk.entries]

    async def _follow(self, source: Source, lines: asyncio.Queue[LogLine]) -> None:
        request = source.request
        while True:
            try:
                chunk = await self._ask(source, request)
            except UnavailableError as error:
                await lines.put(LogLine(node=source.name, stream="agent", line=f"[{error}]"))
                await asyncio.sleep(10 * FOLLOW_S)
                continue
            for entry in chunk.entries:
                await lines.put(_line(source, entry))
            request = msgspec.structs.replace(request, cursor=chunk.cursor)
            if not chunk.entries:
                await asyncio.sleep(FOLLOW_S)

    async def _ask(self, source: Source, request: LogRequest) -> LogChunk:
        arguments = msgspec.json.decode(msgspec.json.encode(request), type=dict[str, msgspec.Raw])
        try:
            result = await self.commands.ask(source.uid, "logs", arguments)
        except (TransportError, RefusedError) as error:
            raise UnavailableError(f"node {source.name}: {error}") from error
        if not result.ok:
            raise UnavailableError(f"node {source.name}: {result.message}")
        try:
            return decode(LogChunk, result.body.encode())
        except ProtocolError as error:
            raise UnavailableError(f"node {source.name} answered nonsense: {error}") from error


async def lines_of(reader: LogReader, query: LogQuery) -> AsyncIterator[LogLine]:
    """As `read`, closed properly when the consumer stops early."""
    async with aclosing(reader.read(query)) as lines:
        async for line in lines:
            yield line


def _line(source: Source, entry: LogEntry) -> LogLine:
    component = ".".join(entry.replica.split(".")[:2]) if entry.replica else ""
    return LogLine(
        time=entry.time,
        node=source.name,
        component=component,
        replica=entry.replica,
        stream=entry.stream,
        line=entry.line,
    )
