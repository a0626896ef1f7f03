"""The route table. Everything that the API can do is a row here or in `object_routes.py`, and nothing else is.

Router, OpenAPI document, client and the test of who may do what are made from `ROUTES`.
"""

from __future__ import annotations

from typing import Any

from ...descriptions.messages.joining import JoinReply, JoinRequest
from ..planner.explanation import Explanation, WhatIf
from .answers import (
    ApiTokens,
    AuditTrail,
    Decision,
    Decisions,
    Deleted,
    Events,
    Health,
    IssuedApiToken,
    IssuedJoinToken,
    JoinTokens,
    LogLines,
    ReadyAnswer,
    Telemetry,
)
from .object_routes import OBJECT_ROUTES
from .requests import (
    ApiTokenRequest,
    AuditListQuery,
    DecisionListQuery,
    EventListQuery,
    JoinTokenRequest,
    LogQuery,
    TelemetryQuery,
    WhatIfRequest,
    WhyQuery,
)
from .roles import ADMINS, EVERYBODY, LOG_READERS, NODE_KEEPING, PEOPLE
from .route import JSON, Route

DECISIONS = Route(
    name="listDecisions",
    method="GET",
    path="/v1/decisions",
    handler="list_decisions",
    roles=PEOPLE,
    summary="List decisions, newest first.",
    tag="decisions",
    query=DecisionListQuery,
    answer=Decisions,
)
DECISION = Route(
    name="getDecision",
    method="GET",
    path="/v1/decisions/{id}",
    handler="get_decision",
    roles=PEOPLE,
    summary="Read one decision with its record.",
    tag="decisions",
    answer=Decision,
    errors=(404,),
)
WHY = Route(
    name="why",
    method="GET",
    path="/v1/why",
    handler="why",
    roles=PEOPLE,
    summary="Explain a placement: every failing constraint and every score, for every node or for one.",
    tag="decisions",
    query=WhyQuery,
    answer=Explanation,
    errors=(404, 409),
)
WHAT_IF = Route(
    name="whatIf",
    method="POST",
    path="/v1/what-if",
    handler="what_if",
    roles=PEOPLE,
    summary="Say what a changed description would do; nothing is touched.",
    tag="decisions",
    body=WhatIfRequest,
    answer=WhatIf,
    body_type=JSON,
    errors=(404, 409, 413, 415, 422),
)
TELEMETRY = Route(
    name="queryTelemetry",
    method="POST",
    path="/v1/telemetry/query",
    handler="query_telemetry",
    roles=PEOPLE,
    summary="Read statistics over windows of metrics, with the age of each.",
    tag="telemetry",
    body=TelemetryQuery,
    answer=Telemetry,
    body_type=JSON,
    errors=(409, 413, 415, 422),
)
EVENTS = Route(
    name="listEvents",
    method="GET",
    path="/v1/events",
    handler="list_events",
    roles=PEOPLE,
    summary="List events, newest first, or follow them with `watch`.",
    tag="events",
    query=EventListQuery,
    answer=Events,
    stream="events",
    errors=(410,),
)
LOGS = Route(
    name="readLogs",
    method="GET",
    path="/v1/logs",
    handler="read_logs",
    roles=LOG_READERS,
    summary="Read the last log lines of a node or component, or follow them.",
    tag="logs",
    query=LogQuery,
    answer=LogLines,
    stream="events",
    errors=(404, 409),
)
AUDIT = Route(
    name="listAudit",
    method="GET",
    path="/v1/audit",
    handler="list_audit",
    roles=ADMINS,
    summary="List who did what, newest first.",
    tag="audit",
    query=AuditListQuery,
    answer=AuditTrail,
)
CREATE_JOIN_TOKEN = Route(
    name="createJoinToken",
    method="POST",
    path="/v1/join-tokens",
    handler="create_join_token",
    roles=NODE_KEEPING,
    summary="Mint a token that lets one node join, once. The answer is the only place where it is shown.",
    tag="joining",
    body=JoinTokenRequest,
    answer=IssuedJoinToken,
    status=201,
    body_type=JSON,
    mutates=True,
    errors=(409, 413, 415, 422),
)
JOIN_TOKENS = Route(
    name="listJoinTokens",
    method="GET",
    path="/v1/join-tokens",
    handler="list_join_tokens",
    roles=NODE_KEEPING,
    summary="List join tokens that are not expired, without their secrets.",
    tag="joining",
    answer=JoinTokens,
)
DELETE_JOIN_TOKEN = Route(
    name="deleteJoinToken",
    method="DELETE",
    path="/v1/join-tokens/{id}",
    handler="delete_join_token",
    roles=NODE_KEEPING,
    summary="Revoke a join token.",
    tag="joining",
    answer=Deleted,
    mutates=True,
    errors=(404,),
)
JOIN = Route(
    name="join",
    method="POST",
    path="/v1/join",
    handler="join",
    roles=EVERYBODY,
    summary="Join as a node, with a join token as the bearer token.",
    tag="joining",
    body=JoinRequest,
    answer=JoinReply,
    body_type=JSON,
    body_bytes_max=64 * 1024,
    credential="join",
    errors=(409, 413, 415, 422),
)
CREATE_API_TOKEN = Route(
    name="createToken",
    method="POST",
    path="/v1/tokens",
    handler="create_api_token",
    roles=ADMINS,
    summary="Mint an API token for a person or program. The answer is the only place where it is shown.",
    tag="tokens",
    body=ApiTokenRequest,
    answer=IssuedApiToken,
    status=201,
    body_type=JSON,
    mutates=True,
    errors=(413, 415, 422),
)
API_TOKENS = Route(
    name="listTokens",
    method="GET",
    path="/v1/tokens",
    handler="list_api_tokens",
    roles=ADMINS,
    summary="List API tokens, without their secrets.",
    tag="tokens",
    answer=ApiTokens,
)
DELETE_API_TOKEN = Route(
    name="deleteToken",
    method="DELETE",
    path="/v1/tokens/{id}",
    handler="delete_api_token",
    roles=ADMINS,
    summary="Revoke an API token; streams that it opened end within seconds.",
    tag="tokens",
    answer=Deleted,
    mutates=True,
    errors=(404,),
)
HEALTHZ = Route(
    name="healthz",
    method="GET",
    path="/healthz",
    handler="healthz",
    roles=EVERYBODY,
    summary="The process answers.",
    tag="system",
    answer=Health,
    credential="none",
)
READYZ = Route(
    name="readyz",
    method="GET",
    path="/readyz",
    handler="readyz",
    roles=EVERYBODY,
    summary="Whether store, broker and planner work.",
    tag="system",
    answer=ReadyAnswer,
    also=(503,),
    credential="none",
)
METRICS = Route(
    name="metrics",
    method="GET",
    path="/metrics",
    handler="metrics",
    roles=PEOPLE,
    summary="Prometheus text.",
    tag="system",
    answer=str,
    stream="text",
)
OPENAPI = Route(
    name="openapi",
    method="GET",
    path="/openapi.json",
    handler="openapi",
    roles=EVERYBODY,
    summary="This API as an OpenAPI 3.1 document.",
    tag="system",
    answer=dict,
    also=(304,),
    credential="none",
)
DOCS = Route(
    name="docs",
    method="GET",
    path="/docs",
    handler="docs",
    roles=EVERYBODY,
    summary="This API as a page to read and try.",
    tag="system",
    answer=str,
    stream="html",
    credential="none",
)
DOCS_ASSET = Route(
    name="docsAsset",
    method="GET",
    path="/docs/{asset}",
    handler="docs_asset",
    roles=EVERYBODY,
    summary="A script or style sheet of the page.",
    tag="system",
    answer=bytes,
    stream="bytes",
    credential="none",
    errors=(404,),
)

ROUTES: tuple[Route[Any], ...] = (
    *OBJECT_ROUTES,
    *(DECISIONS, DECISION, WHY, WHAT_IF, TELEMETRY, EVENTS, LOGS, AUDIT),
    *(CREATE_JOIN_TOKEN, JOIN_TOKENS, DELETE_JOIN_TOKEN, JOIN, CREATE_API_TOKEN, API_TOKENS, DELETE_API_TOKEN),
    *(HEALTHZ, READYZ, METRICS, OPENAPI, DOCS, DOCS_ASSET),
)
"""The table."""
