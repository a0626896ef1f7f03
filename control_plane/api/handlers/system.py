"""The server about itself: health, readiness, metrics, its OpenAPI document and the page that shows it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from .... import __version__
from ..answers import Check, Health, ReadyAnswer
from ..call import Call, Reply, json_reply
from ..context import Context
from ..openapi import openapi_document
from ..refusals import NotFoundError

_WEB = Path(__file__).parent.parent / "web"
_CONTENT_TYPES = {"css": "text/css", "js": "text/javascript"}
_ASSETS = ("docs.css", "docs.js")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page runs its own script and talks to its own server, nothing else."""


async def healthz(_: Context, __: Call) -> Reply:
    """Answer at all."""
    return json_reply(Health(version=__version__))


async def readyz(context: Context, _: Call) -> Reply:
    """Check the store and what the services check; 503 unless all is well."""
    failed = context.store.failed
    checks = (
        Check(name="store", ok=failed is None, message=str(failed or "")),
        *await context.services.checks(),
    )
    is_ready = all(check.ok for check in checks)
    return json_reply(ReadyAnswer(ready=is_ready, checks=checks), status=200 if is_ready else 503)


async def metrics(context: Context, _: Call) -> Reply:
    """Prometheus text: the API's own, the store's, then the services'."""
    status = await context.store.status()
    context.measures.set_streams(context.occupancy.streams.total())
    context.measures.set_gauge("shoal_store_version", "Newest resource version.", status.head_version)
    context.measures.set_gauge("shoal_store_bytes", "Database and write-ahead log.", status.file_bytes)
    context.measures.set_gauge("shoal_store_writes_queued", "Writes that wait for the disk.", status.writes_queued)
    context.measures.set_gauge("shoal_store_commits", "Commits since the start.", status.commits)
    context.measures.set_gauge("shoal_store_writes", "Writes since the start; several share a commit.", status.writes)
    context.measures.set_sizes(status.sizes)
    text = context.measures.text() + await context.services.metrics()
    return Reply(text.encode(), content_type="text/plain; version=0.0.4; charset=utf-8")


async def openapi(context: Context, call: Call) -> Reply:
    """The document, made once."""
    body = openapi_document(context.routes)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if call.preconditions.not_modified == tag:
        return Reply(b"", 304, (("ETag", tag),))
    return Reply(body, headers=(("ETag", tag), ("Cache-Control", "no-cache")))


async def docs(_: Context, __: Call) -> Reply:
    """The page."""
    headers = (("Content-Security-Policy", _POLICY), ("Referrer-Policy", "no-referrer"))
    return Reply(_asset("docs.html"), headers=headers, content_type="text/html; charset=utf-8")


async def docs_asset(_: Context, call: Call) -> Reply:
    """Its script or style sheet."""
    name = call.path["asset"]
    if name not in _ASSETS:
        raise NotFoundError("Asset", name)
    content_type = f"{_CONTENT_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    return Reply(_asset(name), headers=(("Cache-Control", "no-cache"),), content_type=content_type)


@cache
def _asset(name: str) -> bytes:
    return (_WEB / name).read_bytes()
