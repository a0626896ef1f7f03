"""The audit trail, newest first."""

from __future__ import annotations

import msgspec

from ...documents import rfc3339
from ...store.records import AuditEntry, AuditQuery, Logged
from ..answers import AuditAnswer, AuditTrail, page_info
from ..call import Call, Reply, json_reply
from ..context import Context
from ..requests import AuditListQuery
from ..tags import paged, parse_continued_version


async def list_audit(context: Context, call: Call) -> Reply:
    """Who did what."""
    asked = call.query_as(AuditListQuery)
    before = parse_continued_version(asked.continue_)
    wanted = AuditQuery(asked.actor, asked.kind, asked.name, before, asked.limit + 1)
    rows, version = await context.store.read(lambda tx: (tx.audit(wanted), tx.version))
    shown, more = paged(rows, asked.limit)
    trail = AuditTrail(items=tuple(_answer(row) for row in shown), metadata=page_info(version, more))
    return json_reply(trail)


def _answer(row: Logged[AuditEntry]) -> AuditAnswer:
    entry = row.entry
    return AuditAnswer(
        version=row.version,
        time=rfc3339(row.at_ms),
        actor=entry.actor,
        role=entry.role,
        action=entry.action,
        kind=entry.kind,
        name=entry.name,
        request_id=entry.request_id,
        detail=msgspec.json.decode(entry.detail) if entry.detail else None,
    )
