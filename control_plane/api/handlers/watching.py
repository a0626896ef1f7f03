"""`?watch=1` of a list: the objects that are there, or what changed since a version, and then each change in order."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ...documents import labels_of, plain
from ...store.records import Change, Operation, StoredObject
from ..call import Call
from ..context import Context
from ..selectors import Selector
from .streams import EventStream


async def watch_objects(context: Context, call: Call, selector: Selector, asked: int | None) -> web.StreamResponse:
    """Stream the objects of the route's kind, from version `asked` on if there is one.

    Raises `HistoryError` (410) if that is forgotten.
    """
    kind = call.route.kind
    present: tuple[StoredObject, ...] = ()
    if asked is None:
        present, since = await context.store.read(lambda tx: (tx.all(kind), tx.version))
    else:
        since = asked
    watch = context.store.watch(since, {kind})
    missed = await watch.ready()
    stream = EventStream(context, call)
    teller = _ObjectTeller(stream, selector, knows_what_was_shown=asked is None)

    async def tell() -> None:
        for row in present:
            await teller.tell(Change(row.resource_version, Operation.PUT, row), is_numbered=False)
        if asked is None:
            await stream.bookmark(since)
        for change in missed:
            await teller.tell(change)
        await stream.follow(watch, teller.tell)

    return await stream.run(tell)


class _ObjectTeller:
    """Sends the changes that the selector lets through; an object that stops matching is told as deleted."""

    def __init__(self, stream: EventStream, selector: Selector, *, knows_what_was_shown: bool) -> None:
        self._stream = stream
        self._selector = selector
        self._shown: set[str] | None = set() if knows_what_was_shown else None

    async def tell(self, change: Change, *, is_numbered: bool = True) -> None:
        """Send one change. Those that a new watch begins with carry no number: they aren't in order of version."""
        matches = not self._selector.terms or self._selector.matches(labels_of(change.object))
        if not matches and self._was_never_shown(change.object.name):
            return
        operation = change.operation if matches else Operation.DELETE
        self._note(change.object.name, operation)
        data = msgspec.json.encode({"type": operation.value, "object": plain(change.object)})
        await self._stream.send(operation.value, data, version=change.version if is_numbered else None)

    def _was_never_shown(self, name: str) -> bool:
        return self._shown is not None and name not in self._shown

    def _note(self, name: str, operation: Operation) -> None:
        if self._shown is None:
            return
        if operation is Operation.PUT:
            self._shown.add(name)
        else:
            self._shown.discard(name)
