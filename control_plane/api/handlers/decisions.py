"""Decisions as they were recorded, why a component is where it is, and what a change would do."""

from __future__ import annotations

from ...documents import rfc3339
from ...store.records import DecisionEntry, DecisionQuery, Logged
from ..answers import Decision, Decisions, page_info
from ..call import Call, Reply, json_reply
from ..context import Context
from ..refusals import NotFoundError
from ..requests import DecisionListQuery, WhatIfRequest, WhyQuery
from ..tags import paged, parse_continued_version


async def list_decisions(context: Context, call: Call) -> Reply:
    """One page, newest first, without the records."""
    asked = call.query_as(DecisionListQuery)
    wanted = DecisionQuery(
        application=asked.application,
        component=asked.component,
        outcome=asked.outcome,
        before_version=parse_continued_version(asked.continue_),
        limit=asked.limit + 1,
    )
    rows, version = await context.store.read(lambda tx: (tx.decisions(wanted), tx.version))
    shown, more = paged(rows, asked.limit)
    page = page_info(version, more)
    return json_reply(Decisions(items=tuple(_answer(row, None) for row in shown), metadata=page))


async def get_decision(context: Context, call: Call) -> Reply:
    """One decision with its record."""
    row = await context.store.read(lambda tx: tx.decision(call.path["id"]))
    if row is None:
        raise NotFoundError("Decision", call.path["id"])
    return json_reply(_answer(row, context.services.decision_record(row.entry.record)))


async def why(context: Context, call: Call) -> Reply:
    """The full table, or one row of it."""
    return json_reply(await context.services.why(call.query_as(WhyQuery)))


async def what_if(context: Context, call: Call) -> Reply:
    """Plan over a changed present; nothing is touched."""
    return json_reply(await context.services.what_if(call.body_as(WhatIfRequest)))


def _answer(row: Logged[DecisionEntry], record: dict[str, object] | None) -> Decision:
    entry = row.entry
    return Decision(
        id=entry.id,
        time=rfc3339(row.at_ms),
        application=entry.application,
        component=entry.component,
        outcome=entry.outcome,
        record=record,
    )
