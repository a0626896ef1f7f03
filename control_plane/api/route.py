"""One row of the route table: all that router, OpenAPI document, client and role matrix need to know of a route."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec
from pydantic import BaseModel

from ...descriptions.kinds.meta import NAME_PATTERN
from .requests import NoQuery
from .roles import Role

A = TypeVar("A")

BODY_BYTES_MAX = 1024 * 1024
DEADLINE_S = 30.0
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
BYTES = "application/octet-stream"
PROBLEM_JSON = "application/problem+json"

Method = Literal["GET", "PUT", "PATCH", "POST", "DELETE"]
Stream = Literal["", "events", "bytes", "text", "html"]

PATH_PARAMETERS = {
    "name": NAME_PATTERN,
    "id": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
    "sha256": r"^[0-9a-f]{64}$",
    "asset": r"^[a-z]{1,32}\.[a-z]{1,8}$",
}
"""What each parameter of a path template must look like."""


@dataclass(frozen=True)
class Route(Generic[A]):
    """Method and path, who may use it, what goes in and what comes out."""

    name: str
    """Operation id; unique."""
    method: Method
    path: str
    handler: str
    """Name in the map of handlers; several routes may share one."""
    roles: frozenset[Role]
    """Roles that may use it; none means that no API token is asked for."""
    summary: str
    tag: str
    answer: type[A]
    """A model, a message, `dict` for JSON without a model, or `bytes` and `str` for what isn't JSON."""
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | type[msgspec.Struct] | None = None
    """What the body is parsed into; None where there is none or the handler reads it itself (`body_type` tells)."""
    body_type: str = ""
    """Media type of the request; empty when there is no body."""
    body_bytes_max: int = BODY_BYTES_MAX
    status: int = 200
    also: tuple[int, ...] = ()
    """Other statuses of success, such as 201 for a PUT that created."""
    errors: tuple[int, ...] = ()
    """Statuses of problems beside those that every route has."""
    kind: str = ""
    """Of the objects that the route is about."""
    stream: Stream = ""
    """How the answer comes when it isn't one JSON value; `events` only when the query asks to follow."""
    deadline_s: float = DEADLINE_S
    credential: Literal["api", "join", "none"] = "api"
    """Which kind of bearer token is asked for."""
    mutates: bool = False
    """Whether it changes something, so that it is audited and takes an `Idempotency-Key`."""
    preconditions: bool = False
    """Whether it takes `If-Match` and `If-None-Match`."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    def url(self, **path: str) -> str:
        """The path with its parameters filled in."""
        return self.path.format(**path)
