"""Statistics over the telemetry windows."""

from __future__ import annotations

from ..call import Call, Reply, json_reply
from ..context import Context
from ..requests import TelemetryQuery


async def query_telemetry(context: Context, call: Call) -> Reply:
    """Answer the queries in their order."""
    return json_reply(await context.services.telemetry(call.body_as(TelemetryQuery)))
