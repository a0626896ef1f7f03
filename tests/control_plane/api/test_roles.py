"""Who may do what: every route with every role, without a token, and with tokens that don't count.

Requests are made from the table. What is asserted is only whether the gate lets them in; what handlers then say about
an object that isn't there is another test's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shoal.control_plane.api.object_routes import PLURALS
from shoal.control_plane.api.roles import Role
from shoal.control_plane.api.route import Route
from shoal.control_plane.api.routes import ROUTES

QUERIES = {"why": "?application=a&component=b", "readLogs": "?node=a", "uploadModel": ""}
PATHS = {"name": "a", "id": "0123456789abcdef", "sha256": "0" * 64, "asset": "docs.js"}
REFUSED = frozenset({401, 403})
GUARDED = [route for route in ROUTES if route.credential == "api"]
OPEN = [route for route in ROUTES if route.credential == "none"]


def body(route: Route[Any]) -> object:
    """Something of the right form, so that nothing but the role can be in the way."""
    if route.kind in PLURALS and route.method == "PUT" and route.body is not None:
        return {"apiVersion": "shoal.dev/v1", "kind": route.kind, "metadata": {"name": "a"}, "spec": {}}
    return {"": None, "application/octet-stream": b"x"}.get(route.body_type, {})


async def status(served: Any, route: Route[Any], **how: Any) -> int:
    headers = {"Content_Type": route.body_type} if route.body_type else {}
    path = route.url(**PATHS) + QUERIES.get(route.name, "")
    heard = await served.ask(route.method, path, body(route), **headers, **how)
    if heard.status >= 400:
        assert heard.code
    return int(heard.status)


def test_each_role_may_do_what_the_table_says(serve: Any, count_case: Callable[[], None]) -> None:
    async def run() -> None:
        async with serve() as served:
            wrong = []
            for route in GUARDED:
                for role in Role:
                    count_case()
                    got = await status(served, route, role=role)
                    if (got == 403) == (role in route.roles) or got in (401, 500):
                        wrong.append((route.name, role.value, got))
            assert wrong == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Basic YTpi",
        "Bearer shoal_0123456789abcdef_" + "A" * 43,
        "Bearer \xff",
    ],
    ids=["none", "no value", "blank", "nonsense", "basic", "unknown", "not ascii"],
)
def test_nothing_guarded_is_open_without_a_token_that_counts(serve: Any, token: str) -> None:
    async def run() -> None:
        async with serve() as served:
            for route in GUARDED:
                headers = {"Authorization": token} if token else {}
                assert await status(served, route, role=None, **headers) == 401, route.name

    asyncio.run(run())


def test_another_secret_under_a_known_id_does_not_count(serve: Any) -> None:
    async def run() -> None:
        async with serve() as served:
            right = served.tokens[Role.SLICE_ADMIN]
            wrong = right[:-1] + ("A" if right[-1] != "A" else "B")
            heard = await served.ask("GET", "/v1/nodes", role=None, Authorization=f"Bearer {wrong}")
            assert (heard.status, heard.code) == (401, "unauthenticated")
            assert heard.headers["WWW-Authenticate"].startswith("Bearer")
            assert (await served.ask("GET", "/v1/nodes", role=None, Authorization=f"Bearer {right}")).status == 200

    asyncio.run(run())


@pytest.mark.parametrize("route", OPEN, ids=lambda route: route.name)
def test_what_needs_no_token_asks_for_none(serve: Any, route: Route[Any]) -> None:
    async def run() -> None:
        async with serve() as served:
            assert await status(served, route, role=None) == 200

    asyncio.run(run())


def test_joining_takes_no_api_token(serve: Any) -> None:
    async def run() -> None:
        async with serve() as served:
            request = {"name": "edge-1", "nonce": "n"}
            for role in Role:
                assert (await served.ask("POST", "/v1/join", request, role=role)).status == 401
            assert (await served.ask("POST", "/v1/join", request, role=None)).status == 401

    asyncio.run(run())


def test_a_refusal_names_the_role_and_nothing_of_the_object(serve: Any) -> None:
    async def run() -> None:
        async with serve() as served:
            await served.put_node("secret-node")
            heard = await served.ask("DELETE", "/v1/nodes/secret-node", role=Role.VIEWER)
            assert heard.code == "forbidden"
            assert "viewer" in heard.json["detail"]
            missing = await served.ask("DELETE", "/v1/nodes/no-node", role=Role.VIEWER)
            assert missing.json["detail"] == heard.json["detail"]

    asyncio.run(run())
