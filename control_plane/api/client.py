"""The API as Python calls: `Client` for asyncio, `BlockingClient` for the command line. Both speak the route table.

    async with Client("http://127.0.0.1:7400", token) as client:
        node = await client.get(Node, "edge-1")
        async for change in client.watch(Application): ...

Raises `ApiError` when the server refuses (`error.problem` is the whole document) and `TransportError` when it cannot be
reached; the latter after a few tries where trying again is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ...descriptions.kinds import Kind, Node, Rollout
from ...descriptions.messages.joining import JoinReply, JoinRequest
from ..planner.explanation import Explanation, WhatIf
from . import object_routes, routes
from .answers import (
    ApiTokens,
    AuditTrail,
    Change,
    ContentReceived,
    Decision,
    Decisions,
    Deleted,
    EventAnswer,
    Events,
    IssuedApiToken,
    IssuedJoinToken,
    JoinTokens,
    LogLine,
    LogLines,
    Placements,
    ReadyAnswer,
    Telemetry,
)
from .requests import (
    ApiTokenRequest,
    AuditListQuery,
    DecisionListQuery,
    EventListQuery,
    JoinTokenRequest,
    LogQuery,
    ObjectListQuery,
    TelemetryQuery,
    WhatIfRequest,
    WhyQuery,
    WriteQuery,
)
from .route import Route
from .streaming import follow
from .transport import ApiError, Request, Transport
from .uploads import upload

__all__ = ["ApiError", "BlockingClient", "Client"]

A = TypeVar("A")
K = TypeVar("K", bound=Kind)
T = TypeVar("T")


class Client:
    """A control plane's API. Use it with `async with`."""

    def __init__(self, url: str, token: str = "", *, ca: str = "", timeout_s: float = 30.0) -> None:
        self._transport = Transport(url, token, ca=ca, timeout_s=timeout_s)

    async def __aenter__(self) -> Client:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def call(self, route: Route[A], request: Request = Request()) -> A:  # noqa: B008 - frozen
        """Call any route of the table."""
        return await self._transport.call(route, request)

    async def list(self, kind: type[K], *, selector: str = "") -> tuple[K, ...]:
        """Every object of a kind in order of name, all pages of them."""
        found: list[K] = []
        token = ""
        while True:
            query = ObjectListQuery.model_validate({"labelSelector": selector, "continue": token})
            page = await self.call(object_routes.list_route(kind), Request(query=query))
            found += page.items
            token = page.metadata.continue_
            if not token:
                return tuple(found)

    async def get(self, kind: type[K], name: str) -> K:
        """One object. Raises `ApiError` (404)."""
        return await self.call(object_routes.get_route(kind), Request({"name": name}))

    async def apply(self, wanted: K, *, dry_run: bool = False, version: int | None = None) -> K:
        """Create an object, or replace its labels, annotations and spec; returns it as it is stored.

        `version`: only over this one (0 = only if it doesn't exist). Raises `ApiError` (412 when it is at another).
        """
        headers = {"If-None-Match": "*"} if version == 0 else {"If-Match": f'"{version}"'} if version else {}
        request = Request({"name": wanted.metadata.name}, WriteQuery(dry_run=dry_run), wanted, headers)
        return await self.call(object_routes.put_route(type(wanted)), request)

    async def patch(self, kind: type[K], name: str, patch: Mapping[str, Any], *, dry_run: bool = False) -> K:
        """Change parts of an object by a merge patch (RFC 7396): None removes a key."""
        request = Request({"name": name}, WriteQuery(dry_run=dry_run), patch)
        return await self.call(object_routes.patch_route(kind), request)

    async def delete(self, kind: type[Kind], name: str) -> Deleted:
        """Delete an object. Raises `ApiError` (404)."""
        return await self.call(object_routes.delete_route(kind), Request({"name": name}))

    async def watch(self, kind: type[K], *, since: int | None = None, selector: str = "") -> AsyncIterator[Change[K]]:
        """Every object, then each change; after a break it goes on where it was.

        `since` begins behind a version instead. Raises `ApiError` (410) if the server has forgotten what was missed.
        """
        route = object_routes.list_route(kind)
        query = ObjectListQuery(watch=True, resource_version=since, label_selector=selector)
        model = Change[kind]  # type: ignore[valid-type]
        async for event in follow(self._transport, route, query):
            if event.event in ("put", "delete"):
                yield model.model_validate_json(event.data)

    async def placements(self, application: str) -> Placements:
        """Where an application's replicas are."""
        return await self.call(object_routes.PLACEMENTS, Request({"name": application}))

    async def cordon(self, node: str) -> Node:
        """Place nothing new on a node."""
        return await self.call(object_routes.CORDON, Request({"name": node}))

    async def uncordon(self, node: str) -> Node:
        """Let a node take replicas again."""
        return await self.call(object_routes.UNCORDON, Request({"name": node}))

    async def drain(self, node: str) -> Node:
        """Move what runs on a node elsewhere."""
        return await self.call(object_routes.DRAIN, Request({"name": node}))

    async def pause(self, rollout: str) -> Rollout:
        """Begin no further step of a rollout."""
        return await self.call(object_routes.PAUSE, Request({"name": rollout}))

    async def resume(self, rollout: str) -> Rollout:
        """Go on with a rollout."""
        return await self.call(object_routes.RESUME, Request({"name": rollout}))

    async def abort(self, rollout: str) -> Rollout:
        """End a rollout and take back what was begun."""
        return await self.call(object_routes.ABORT, Request({"name": rollout}))

    async def upload_model(
        self, name: str, path: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> ContentReceived:
        """Send a model's file; a broken upload goes on where it stopped. `progress(bytes done, bytes in all)`."""
        return await upload(self._transport, name, path, progress)

    async def blob(self, sha256: str) -> bytes:
        """Contents by digest, as a whole in memory: for small ones."""
        return await self.call(object_routes.GET_BLOB, Request({"sha256": sha256}))

    async def decisions(self, query: DecisionListQuery = DecisionListQuery()) -> Decisions:  # noqa: B008 - frozen
        """Decisions, newest first."""
        return await self.call(routes.DECISIONS, Request(query=query))

    async def decision(self, decision_id: str) -> Decision:
        """One decision with its record."""
        return await self.call(routes.DECISION, Request({"id": decision_id}))

    async def why(self, application: str, component: str, node: str | None = None) -> Explanation:
        """Why a component is where it is, and why not elsewhere."""
        query = WhyQuery(application=application, component=component, node=node)
        return await self.call(routes.WHY, Request(query=query))

    async def what_if(self, request: WhatIfRequest) -> WhatIf:
        """What a change would do; nothing is touched."""
        return await self.call(routes.WHAT_IF, Request(body=request))

    async def telemetry(self, query: TelemetryQuery) -> Telemetry:
        """Statistics over the telemetry windows."""
        return await self.call(routes.TELEMETRY, Request(body=query))

    async def events(self, query: EventListQuery = EventListQuery()) -> Events:  # noqa: B008 - frozen
        """Events, newest first."""
        return await self.call(routes.EVENTS, Request(query=query))

    async def watch_events(self, query: EventListQuery = EventListQuery()) -> AsyncIterator[EventAnswer]:  # noqa: B008
        """Events as they happen; after a break it goes on where it was."""
        wanted = query.model_copy(update={"watch": True})
        async for event in follow(self._transport, routes.EVENTS, wanted):
            if event.event == "event":
                yield EventAnswer.model_validate_json(event.data)

    async def logs(self, query: LogQuery) -> LogLines:
        """The last lines of a node or component."""
        return await self.call(routes.LOGS, Request(query=query))

    async def follow_logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The last lines, then those that come, until the stream ends."""
        wanted = query.model_copy(update={"follow": True})
        async for event in self._transport.stream(routes.LOGS, Request(query=wanted)):
            if event.event == "line":
                yield LogLine.model_validate_json(event.data)

    async def audit(self, query: AuditListQuery = AuditListQuery()) -> AuditTrail:  # noqa: B008 - frozen
        """Who did what, newest first."""
        return await self.call(routes.AUDIT, Request(query=query))

    async def create_join_token(self, request: JoinTokenRequest = JoinTokenRequest()) -> IssuedJoinToken:  # noqa: B008
        """Mint a token that lets one node join."""
        return await self.call(routes.CREATE_JOIN_TOKEN, Request(body=request))

    async def join_tokens(self) -> JoinTokens:
        """Join tokens that are not expired."""
        return await self.call(routes.JOIN_TOKENS)

    async def delete_join_token(self, token_id: str) -> Deleted:
        """Revoke a join token."""
        return await self.call(routes.DELETE_JOIN_TOKEN, Request({"id": token_id}))

    async def join(self, request: JoinRequest) -> JoinReply:
        """Join as a node; the client's token is the join token."""
        return await self.call(routes.JOIN, Request(body=request))

    async def create_token(self, request: ApiTokenRequest) -> IssuedApiToken:
        """Mint an API token."""
        return await self.call(routes.CREATE_API_TOKEN, Request(body=request))

    async def tokens(self) -> ApiTokens:
        """API tokens, without their secrets."""
        return await self.call(routes.API_TOKENS)

    async def delete_token(self, token_id: str) -> Deleted:
        """Revoke an API token."""
        return await self.call(routes.DELETE_API_TOKEN, Request({"id": token_id}))

    async def ready(self) -> ReadyAnswer:
        """Whether the control plane works, and what doesn't."""
        return await self.call(routes.READYZ)

    async def metrics(self) -> str:
        """Prometheus text."""
        return await self.call(routes.METRICS)


class BlockingClient:
    """The same client for code without an event loop. Use it with `with`; Ctrl-C ends a call or an iteration.

    with BlockingClient(url, token) as client:
        node = client.run(lambda api: api.get(Node, "edge-1"))
        for change in client.iterate(lambda api: api.watch(Node)): ...
    """

    def __init__(self, url: str, token: str = "", *, ca: str = "", timeout_s: float = 30.0) -> None:
        self._client = Client(url, token, ca=ca, timeout_s=timeout_s)
        self._runner = asyncio.Runner()

    def __enter__(self) -> BlockingClient:
        self._runner.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._client.__aexit__(kind, error, trace))
        self._runner.close()

    def run(self, ask: Callable[[Client], Awaitable[T]]) -> T:
        """Make one call and wait for its answer."""

        async def asked() -> T:
            return await ask(self._client)

        return self._runner.run(asked())

    def iterate(self, ask: Callable[[Client], AsyncIterator[T]]) -> Iterator[T]:
        """Go through a stream."""
        items = ask(self._client)

        async def following() -> tuple[T] | None:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return None

        while (item := self._runner.run(following())) is not None:
            yield item[0]
