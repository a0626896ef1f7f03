"""One request on its way to a handler, and the reply on its way back; neither knows the HTTP library.

`gate.py` makes calls and sends replies. Only handlers that stream touch `Call.http`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from pydantic import BaseModel

from .route import JSON, Route
from .tokens import Principal

M = TypeVar("M")


@dataclass(frozen=True)
class Preconditions:
    """What `If-Match` and `If-None-Match` ask for."""

    version: int | None = None
    """The version that the object must have; 0 = it must not exist."""
    exists: bool = False
    """`If-Match: *`: it must exist."""
    not_modified: str = ""
    """`If-None-Match` of a GET: answer 304 if the tag is still this."""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = JSON
    is_secret: bool = False
    """True when the body must not be kept anywhere."""


@dataclass(frozen=True)
class Call:
    """A request that has passed the gate: authenticated, within limits, its query and body valid."""

    route: Route[Any]
    request_id: str
    principal: Principal
    path: Mapping[str, str]
    query: BaseModel
    raw_body: bytes
    body: BaseModel | msgspec.Struct | None
    preconditions: Preconditions
    idempotency_key: str
    http: web.Request = field(repr=False)
    remote: str = ""
    """Address that the request came from."""
    credential: str = field(default="", repr=False)
    """The bearer token itself, for joining alone."""

    def query_as(self, model: type[M]) -> M:
        """The query as the model that the route names."""
        assert isinstance(self.query, model), f"{self.route.name} has no {model.__name__}"
        return self.query

    def body_as(self, model: type[M]) -> M:
        """The body as the model that the route names."""
        assert isinstance(self.body, model), f"{self.route.name} has no {model.__name__}"
        return self.body


Streamed = web.StreamResponse
Handler = Callable[[Call], Awaitable[Reply | Streamed]]


def json_reply(
    answer: BaseModel | msgspec.Struct, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    """A model as JSON, keys in camelCase, without what isn't set."""
    if isinstance(answer, msgspec.Struct):
        return Reply(msgspec.json.encode(answer), status, headers)
    return Reply(answer.model_dump_json(by_alias=True, exclude_none=True).encode(), status, headers)
