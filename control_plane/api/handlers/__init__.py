"""Handlers by the name that the route table gives them, one file a noun.

A handler gets a `Context` and a `Call` that has passed the gate, and returns a `Reply`, or writes a stream itself.
"""

from __future__ import annotations

from ..context import Handler
from .audit import list_audit
from .contents import get_blob, put_content
from .decisions import get_decision, list_decisions, what_if, why
from .events import list_events
from .joining import create_join_token, delete_join_token, join, list_join_tokens
from .logs import read_logs
from .nodes import cordon_node, drain_node, uncordon_node
from .objects import delete_object, get_object, list_objects, patch_object, put_object
from .placements import list_placements
from .rollouts import abort_rollout, pause_rollout, resume_rollout
from .system import docs, docs_asset, healthz, metrics, openapi, readyz
from .telemetry import query_telemetry
from .tokens import create_api_token, delete_api_token, list_api_tokens

HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        *(list_objects, get_object, put_object, patch_object, delete_object),
        *(cordon_node, uncordon_node, drain_node, pause_rollout, resume_rollout, abort_rollout),
        *(list_placements, put_content, get_blob, list_decisions, get_decision, why, what_if, query_telemetry),
        *(list_events, read_logs, list_audit, create_join_token, list_join_tokens, delete_join_token, join),
        *(create_api_token, list_api_tokens, delete_api_token),
        *(healthz, readyz, metrics, openapi, docs, docs_asset),
    )
}
"""Every handler that the route table names; a test holds the two together."""
