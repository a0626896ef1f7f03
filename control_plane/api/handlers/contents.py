"""Model contents: uploads that can be continued, and downloads in ranges for agents."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ....descriptions.kinds import Model
from ....descriptions.kinds.model import ModelStatus
from ...documents import from_row, with_status
from ...store.blobs import Blob, DigestError, Upload
from ...store.transaction import Transaction
from ..answers import ContentReceived
from ..bodies import body_parts
from ..call import Call, Reply, json_reply
from ..context import Context
from ..mutations import Target, mutate
from ..refusals import InvalidError, NotFoundError
from ..requests import ContentQuery
from ..roles import Role
from .ranges import send_blob

WRITE_BYTES = 1024 * 1024
"""Bytes gathered before a thread writes them."""


async def put_content(context: Context, call: Call) -> Reply:
    """Store the body; once it is whole and right, the model refers to it. 202 while more is expected."""
    asked = call.query_as(ContentQuery)
    target = Target("Model", call.path["name"])
    announced = _announced(asked, await _model(context, target.name))
    if asked.offset and not announced:
        raise InvalidError("only an upload with an announced sha256 can be continued")
    with await asyncio.to_thread(context.store.blobs.upload, announced or None, offset=asked.offset) as upload:
        await _receive(context, call, upload)
        if asked.size not in (None, upload.size):
            return json_reply(ContentReceived(model=target.name, received=upload.size, complete=False), status=202)
        blob = await asyncio.to_thread(upload.finish)
    return await mutate(context.store, call, target, lambda tx: _refer(tx, target.name, blob))


async def get_blob(context: Context, call: Call) -> Reply | web.StreamResponse:
    """The bytes, whole or in ranges (RFC 9110 §14); an agent gets those of its own node alone."""
    sha256, who = call.path["sha256"], call.principal
    if who.role is Role.AGENT and sha256 not in await context.services.node_blobs(who.node_uid):
        raise NotFoundError("Blob", sha256)
    blob = await asyncio.to_thread(context.store.blobs.get, sha256)
    if blob is None:
        raise NotFoundError("Blob", sha256)
    if call.preconditions.not_modified == f'"{sha256}"':
        return Reply(b"", 304, (("ETag", f'"{sha256}"'),))
    return await send_blob(call, blob)


async def _model(context: Context, name: str) -> Model:
    row = await context.store.get("Model", name)
    if row is None:
        raise NotFoundError("Model", name)
    return from_row(row, Model)


def _announced(asked: ContentQuery, model: Model) -> str:
    """The digest that the bytes must have: the description's, which the query may repeat but not change."""
    described = model.spec.source.sha256 or ""
    if described and asked.sha256 not in ("", described):
        raise DigestError(f"the model's description asks for SHA-256 {described}")
    return described or asked.sha256


async def _receive(context: Context, call: Call, upload: Upload) -> None:
    gathered = bytearray()
    try:
        async for part in body_parts(call.route, call.http, context.limits):
            gathered += part
            if len(gathered) >= WRITE_BYTES:
                await asyncio.to_thread(upload.write, bytes(gathered))
                gathered.clear()
    finally:
        await asyncio.to_thread(upload.write, bytes(gathered))


def _refer(tx: Transaction, name: str, blob: Blob) -> Reply:
    row = tx.get("Model", name)
    if row is None:
        raise NotFoundError("Model", name)
    before = from_row(row, Model).status or ModelStatus()
    status = before.model_copy(update={"stored": True, "sha256": blob.sha256, "size": blob.size})
    tx.put("Model", name, with_status(row, status), expected_version=row.resource_version)
    return json_reply(ContentReceived(model=name, received=blob.size, complete=True, sha256=blob.sha256))
