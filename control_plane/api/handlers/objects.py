"""Objects of any kind: list, read, apply, patch, delete. Rows go out as they were stored, without passing a model."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from aiohttp import web

from ....descriptions.document import Value
from ....descriptions.errors import DescriptionError, RefusedError
from ....descriptions.kinds import Kind
from ....descriptions.load import kind_of
from ...documents import labels_of, plain, rendered, to_document, written_by_people
from ...store.errors import ConflictError
from ...store.reading import ReadTransaction
from ...store.records import StoredObject
from ...store.transaction import Transaction
from ..answers import Deleted
from ..bodies import well_formed
from ..call import Call, Preconditions, Reply, json_reply
from ..context import Context
from ..mutations import Target, mutate
from ..refusals import NotFoundError
from ..requests import ObjectListQuery
from ..selectors import Selector, parse_selector
from ..tags import continuation, parse_continuation, tag
from .streams import resume_version
from .watching import watch_objects

ROWS_PER_READ = 500
PATCH_TRIES_MAX = 5


async def list_objects(context: Context, call: Call) -> Reply | web.StreamResponse:
    """One page in order of name, or a stream."""
    query = call.query_as(ObjectListQuery)
    selector = parse_selector(query.label_selector)
    since = resume_version(call, query.resource_version)
    if query.watch:
        return await watch_objects(context, call, selector, since)
    kind, after = call.route.kind, parse_continuation(query.continue_)
    return await context.store.read(lambda tx: _page(tx, kind, after, query.limit, selector))


async def get_object(context: Context, call: Call) -> Reply:
    """One object with its entity tag."""
    row = await context.store.get(call.route.kind, call.path["name"])
    if row is None:
        raise NotFoundError(call.route.kind, call.path["name"])
    if call.preconditions.not_modified == tag(row.resource_version):
        return Reply(b"", 304, _tagged(row))
    return object_reply(row)


async def put_object(context: Context, call: Call) -> Reply:
    """Create, or replace labels, annotations and spec."""
    wanted = cast("Kind", call.body)
    await _admit(context, call, wanted)
    document = to_document(wanted)
    target = Target(call.route.kind, call.path["name"])
    version = _expected(call.preconditions, wanted)

    def change(tx: Transaction) -> Reply:
        current = tx.get(target.kind, target.name)
        _check_identity(wanted, current, call.preconditions, target)
        doc, is_new_spec = written_by_people(document, current)
        stored = tx.put(target.kind, target.name, doc, expected_version=version, new_generation=is_new_spec)
        return object_reply(stored, status=201 if current is None else 200)

    return await mutate(context.store, call, target, change)


async def patch_object(context: Context, call: Call) -> Reply:
    """Merge (RFC 7396) into what is there, validate the whole, write it if nobody else was faster; else again."""
    patch = well_formed(call.raw_body).value
    if not isinstance(patch, dict):
        raise DescriptionError("a merge patch of an object is an object", expected="a mapping")
    asked = _asked_version(call, patch)
    for _ in range(PATCH_TRIES_MAX):
        try:
            return await _patch_once(context, call, patch, asked)
        except ConflictError as error:
            if asked is not None or error.current is None:
                raise
    raise RefusedError(f"{call.path['name']} changed {PATCH_TRIES_MAX} times meanwhile: try again")


async def delete_object(context: Context, call: Call) -> Reply:
    """Delete; what follows from it (stopping replicas, revoking a node) is the control plane's work."""
    target = Target(call.route.kind, call.path["name"])
    if target.kind == "Slice":
        raise RefusedError("the slice cannot be deleted while its control plane serves it")

    def change(tx: Transaction) -> Reply:
        if tx.get(target.kind, target.name) is None:
            raise NotFoundError(target.kind, target.name)
        last = tx.delete(target.kind, target.name, expected_version=call.preconditions.version)
        gone = Deleted(kind=target.kind, name=target.name, uid=last.uid, resource_version=tx.version)
        return json_reply(gone)

    return await mutate(context.store, call, target, change)


def object_reply(row: StoredObject, *, status: int = 200) -> Reply:
    """A row with its entity tag."""
    return Reply(rendered(row), status, _tagged(row))


async def _patch_once(context: Context, call: Call, patch: dict[str, Value], asked: int | None) -> Reply:
    target = Target(call.route.kind, call.path["name"])
    current = await context.store.get(target.kind, target.name)
    if current is None:
        raise NotFoundError(target.kind, target.name)
    if asked not in (None, current.resource_version):
        raise ConflictError(target.kind, target.name, expected=asked, current=current.resource_version)
    wanted = kind_of(merged(plain(current), {key: value for key, value in patch.items() if key != "status"}))
    await _admit(context, call, wanted)
    document = to_document(wanted)

    def change(tx: Transaction) -> Reply:
        doc, is_new_spec = written_by_people(document, current)
        seen = current.resource_version
        return object_reply(tx.put(target.kind, target.name, doc, expected_version=seen, new_generation=is_new_spec))

    return await mutate(context.store, call, target, change)


def _asked_version(call: Call, patch: dict[str, Value]) -> int | None:
    """The version that the client wants to change: by `If-Match`, or by a `metadata.resourceVersion` in the patch."""
    metadata = patch.get("metadata")
    inside = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    asked = call.preconditions.version
    return inside if asked is None and isinstance(inside, int) else asked


def merged(target: Value, patch: dict[str, Value]) -> dict[str, Value]:
    """Apply a merge patch (RFC 7396 §2): objects merge, null removes, everything else replaces."""
    result: dict[str, Value] = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value) if isinstance(value, dict) else value
    return result


async def _admit(context: Context, call: Call, wanted: Kind) -> None:
    if wanted.kind != call.route.kind:
        raise DescriptionError(f"kind {wanted.kind} does not belong here", path="kind", expected=call.route.kind)
    if wanted.metadata.name != call.path["name"]:
        expected = f"{call.path['name']}, as in the path"
        raise DescriptionError("another name than the path has", path="metadata.name", expected=expected)
    if wanted.kind == "Slice" and wanted.metadata.name != context.services.slice_name:
        raise RefusedError(f"this control plane serves the slice {context.services.slice_name!r} alone")
    await context.services.admit(wanted)


def _expected(asked: Preconditions, wanted: Kind) -> int | None:
    return asked.version if asked.version is not None else wanted.metadata.resource_version


def _check_identity(wanted: Kind, current: StoredObject | None, asked: Preconditions, target: Target) -> None:
    if asked.exists and current is None:
        raise ConflictError(target.kind, target.name, expected=-1, current=None)
    uid = wanted.metadata.uid
    if uid is not None and current is not None and uid != current.uid:
        raise RefusedError(f"{target.kind} {target.name!r} was deleted and made anew: its uid is {current.uid}")


def _tagged(row: StoredObject) -> tuple[tuple[str, str], ...]:
    return (("ETag", tag(row.resource_version)),)


def _page(tx: ReadTransaction, kind: str, after: str, limit: int, selector: Selector) -> Reply:
    found: list[StoredObject] = []
    place: str | None = after
    while place is not None and len(found) <= limit:
        page = tx.page(kind, after=place, limit=ROWS_PER_READ)
        found += [row for row in page.objects if not selector.terms or selector.matches(labels_of(row))]
        place = page.next_name
    metadata: dict[str, Any] = {"resourceVersion": tx.version}
    if len(found) > limit:
        metadata["continue"] = continuation(found[limit - 1].name)
    items = [plain(row) for row in found[:limit]]
    return Reply(msgspec.json.encode({"kind": f"{kind}List", "items": items, "metadata": metadata}))
