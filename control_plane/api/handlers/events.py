"""Events: what happened to whom, newest first or as it happens."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ...documents import rfc3339
from ...store.records import EventEntry, EventQuery, Logged
from ..answers import EventAnswer, Events, page_info
from ..call import Call, Reply, json_reply
from ..context import Context
from ..requests import EventListQuery
from ..tags import paged, parse_continued_version
from .streams import EventStream, resume_version


async def list_events(context: Context, call: Call) -> Reply | web.StreamResponse:
    """One page, newest first, or a stream in their order."""
    asked = call.query_as(EventListQuery)
    since = resume_version(call, asked.resource_version)
    if asked.watch:
        return await _watch(context, call, asked, since)
    before = parse_continued_version(asked.continue_)
    wanted = EventQuery(
        kind=asked.kind,
        name=asked.name,
        application=asked.application,
        node=asked.node,
        reason=asked.reason,
        before_version=before,
        limit=asked.limit + 1,
    )
    rows, version = await context.store.read(lambda tx: (tx.events(wanted), tx.version))
    shown, more = paged(rows, asked.limit)
    page = page_info(version, more)
    return json_reply(Events(items=tuple(_answer(row) for row in shown), metadata=page))


async def _watch(context: Context, call: Call, asked: EventListQuery, since: int | None) -> web.StreamResponse:
    start = context.store.head if since is None else since
    watch = context.store.watch_events(start, lambda row: _matches(row.entry, asked))
    missed = await watch.ready()
    stream = EventStream(context, call)

    async def tell_one(row: Logged[EventEntry]) -> None:
        data = _answer(row).model_dump_json(by_alias=True, exclude_none=True).encode()
        await stream.send("event", data, version=row.version)

    async def tell() -> None:
        if since is None:
            await stream.bookmark(start)
        for row in missed:
            await tell_one(row)
        await stream.follow(watch, tell_one)

    return await stream.run(tell)


def _matches(entry: EventEntry, asked: EventListQuery) -> bool:
    pairs = (
        (asked.kind, entry.kind),
        (asked.name, entry.name),
        (asked.application, entry.application),
        (asked.node, entry.node),
        (asked.reason, entry.reason),
    )
    return all(wanted in ("", found) for wanted, found in pairs)


def _answer(row: Logged[EventEntry]) -> EventAnswer:
    entry = row.entry
    return EventAnswer(
        version=row.version,
        time=rfc3339(row.at_ms),
        severity=entry.severity.value,
        reason=entry.reason,
        message=entry.message,
        kind=entry.kind,
        name=entry.name,
        application=entry.application,
        node=entry.node,
        detail=msgspec.json.decode(entry.detail) if entry.detail else None,
    )
