"""The way from an HTTP request to a handler and back: the only place that decides what gets in.

In order: who asks, how often they may, what the request says, whether there is room, and then the handler, all within
the route's deadline. Whatever goes wrong ends as a problem document with the request's id.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from .auth import bearer
from .bodies import (
    check_media_type,
    parse_body,
    read_body,
    read_idempotency_key,
    read_path,
    read_preconditions,
    read_query,
)
from .call import Call, Reply
from .context import Context, Handler
from .limits import RateLimiter
from .problems import problem_reply, status_reply
from .refusals import InvalidError, UnauthorizedError, UnavailableError
from .requests import EventListQuery, LogQuery, ObjectListQuery
from .route import BYTES, Route
from .tokens import Principal

log = logging.getLogger(__name__)

REQUEST_ID = web.RequestKey("request_id", str)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CODES = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 400: "malformed"}
_TOLD = {
    404: "there is no such route; /openapi.json lists all",
    405: "this path has other methods; the Allow header lists them",
    413: "the request is too large",
}


class Gate:
    """One server's gate."""

    def __init__(self, context: Context, handlers: Mapping[str, Handler]) -> None:
        self._context = context
        self._handlers = handlers
        self._rates = RateLimiter(context.limits.rate_per_s, context.limits.burst)
        self._streaming: set[asyncio.Task[Any]] = set()

    def endpoint(self, route: Route[Any]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """What the router calls for a route."""
        handler = self._handlers[route.handler]

        async def answer(http: web.Request) -> web.StreamResponse:
            loop = asyncio.get_running_loop()
            started_s = loop.time()
            response = await self._answer(route, handler, http)
            is_stream = route.stream in ("events", "bytes") and not isinstance(response, web.Response)
            self._context.measures.answered(route.name, response.status, loop.time() - started_s, is_stream=is_stream)
            return response

        return answer

    def end_streams(self) -> None:
        """Cancel every open stream, for the end of the server."""
        for task in self._streaming:
            task.cancel()

    async def _answer(self, route: Route[Any], handler: Handler, http: web.Request) -> web.StreamResponse:
        request_id = http[REQUEST_ID]
        try:
            result = await self._admitted(route, handler, http, request_id)
        except Exception as error:  # noqa: BLE001 - the outermost border: a mistake of ours is answered too
            result = problem_reply(error, request_id, http.path)
        if isinstance(result, web.StreamResponse):
            return result
        if route.mutates:
            log.info("request=%s route=%s path=%s status=%d", request_id, route.name, http.path, result.status)
        return to_http(result)

    async def _admitted(
        self, route: Route[Any], handler: Handler, http: web.Request, request_id: str
    ) -> Reply | web.StreamResponse:
        principal = await self._principal(route, http)
        self._rates.take(principal.id or f"address {http.remote}", asyncio.get_running_loop().time())
        path, query = read_path(route, http), read_query(route, http)
        check_media_type(route, http)
        deadline_s = None if _follows(query) else route.deadline_s
        if deadline_s is None and http.method == "HEAD":
            raise InvalidError("a stream has no head to ask for: use GET")
        try:
            with self._place(route, query, principal, http):
                async with asyncio.timeout(deadline_s):
                    call = await self._call(route, http, request_id, principal, path, query)
                    return await handler(self._context, call)
        except TimeoutError:
            raise UnavailableError(f"not done within {route.deadline_s:g} s", retry_after_s=5.0) from None

    async def _principal(self, route: Route[Any], http: web.Request) -> Principal:
        try:
            return await self._context.auth.principal(route, http.headers)
        except UnauthorizedError:
            self._rates.take(f"address {http.remote}", asyncio.get_running_loop().time())
            raise

    async def _call(
        self,
        route: Route[Any],
        http: web.Request,
        request_id: str,
        principal: Principal,
        path: Mapping[str, str],
        query: BaseModel,
    ) -> Call:
        raw = b"" if route.body_type == BYTES else await read_body(route, http, self._context.limits)
        return Call(
            route=route,
            request_id=request_id,
            principal=principal,
            path=path,
            query=query,
            raw_body=raw,
            body=parse_body(route, raw),
            preconditions=read_preconditions(route, http.headers),
            idempotency_key=read_idempotency_key(route, http.headers),
            http=http,
            remote=http.remote or "",
            credential=bearer(http.headers) if route.credential == "join" else "",
        )

    def _place(
        self, route: Route[Any], query: BaseModel, principal: Principal, http: web.Request
    ) -> AbstractContextManager[None]:
        occupancy = self._context.occupancy
        if not _follows(query) and route.stream != "bytes" and route.body_type != BYTES:
            return occupancy.request()
        task = asyncio.current_task()
        assert task is not None
        self._streaming.add(task)
        task.add_done_callback(self._streaming.discard)
        return occupancy.stream(principal.id or f"address {http.remote}")


@web.middleware
async def identified(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give each request an id, and answer what the router refuses as a problem document."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    request[REQUEST_ID] = request_id
    try:
        response = await handler(request)
    except web.HTTPException as refusal:
        status = refusal.status
        reply = status_reply(status, _CODES.get(status, "refused"), _TOLD.get(status, ""), request_id, request.path)
        response = to_http(reply)
        if "Allow" in refusal.headers:
            response.headers["Allow"] = refusal.headers["Allow"]
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
    return response


def to_http(reply: Reply) -> web.Response:
    """A reply as the HTTP library wants it."""
    headers = {"Content-Type": reply.content_type, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    headers.update(reply.headers)
    if not reply.body:
        del headers["Content-Type"]
    return web.Response(body=reply.body, status=reply.status, headers=headers)


def _follows(query: BaseModel) -> bool:
    match query:
        case ObjectListQuery() | EventListQuery():
            return query.watch
        case LogQuery():
            return query.follow
        case _:
            return False
