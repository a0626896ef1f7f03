"""Tokens: minted once, never shown again, expiring, revocable; and joining with one."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.control_plane.api import join_tokens, tokens
from shoal.control_plane.api.refusals import UnauthorizedError
from shoal.control_plane.api.roles import Role
from shoal.control_plane.store.database import Database


@pytest.fixture
def run(serve: Any) -> Callable[..., None]:
    def running(test: Callable[[Any], Awaitable[None]]) -> None:
        async def within() -> None:
            async with serve() as served:
                await test(served)

        asyncio.run(within())

    return running


class Clock:
    """A wall clock that the test moves."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


async def mint(served: Any, **request: object) -> Any:
    heard = await served.ask("POST", "/v1/join-tokens", request, role=Role.NODE_ADMIN)
    assert heard.status == 201
    return heard.json


async def join(served: Any, token: str, name: str = "edge-1", nonce: str = "n1") -> Any:
    request = {"name": name, "nonce": nonce}
    return await served.ask("POST", "/v1/join", request, role=None, Authorization=f"Bearer {token}")


def test_a_node_joins_once_with_a_token(run: Any) -> None:
    async def test(served: Any) -> None:
        token = (await mint(served))["token"]
        reply = await join(served, token)
        assert reply.status == 200
        assert reply.headers["Cache-Control"] == "no-store"
        uid = reply.json["nodeUid"]
        assert (await served.ask("GET", "/v1/nodes/edge-1")).json["metadata"]["uid"] == uid
        assert (await join(served, token, nonce="n2")).code == "unauthenticated"
        assert (await join(served, token, name="edge-2")).status == 200, "the same nonce is the same request again"
        listed = (await served.ask("GET", "/v1/join-tokens")).json["items"]
        assert [(one["used"], one["usedBy"]) for one in listed] == [(True, uid)]

    run(test)


def test_a_lost_reply_is_given_again(run: Any) -> None:
    async def test(served: Any) -> None:
        token = (await mint(served))["token"]
        first, second = await join(served, token), await join(served, token)
        assert second.json["nodeUid"] == first.json["nodeUid"]

    run(test)


def test_a_token_for_one_node_lets_no_other_in(run: Any) -> None:
    async def test(served: Any) -> None:
        token = (await mint(served, node="edge-7"))["token"]
        assert (await join(served, token, "edge-1")).status == 401
        assert (await join(served, token, "edge-7")).status == 200

    run(test)


def test_the_token_of_a_joined_node_speaks_for_that_node(run: Any) -> None:
    async def test(served: Any) -> None:
        reply = (await join(served, (await mint(served))["token"])).json
        held = (await served.ask("GET", "/v1/tokens")).json["items"]
        assert [one["nodeUid"] for one in held if one["subject"] == "agent:edge-1"] == [reply["nodeUid"]]
        revoked = await served.store.write(lambda tx: tokens.revoke_of_node(tx, reply["nodeUid"]))
        assert revoked == 1
        headers = {"Authorization": f"Bearer {reply['apiToken']}"}
        assert (await served.ask("GET", f"/v1/blobs/{'0' * 64}", role=None, **headers)).status == 401

    run(test)


def test_secrets_are_shown_once_and_kept_nowhere(run: Any, tmp_path: Path) -> None:
    async def test(served: Any) -> None:
        minted = [await mint(served), (await served.ask("POST", "/v1/tokens", {"role": "viewer", "subject": "x"})).json]
        keyed = {"Idempotency_Key": "k"}
        minted += [(await served.ask("POST", "/v1/join-tokens", {}, **keyed)).json for _ in range(2)]
        secrets = [one["token"].split("_" if one["token"].startswith("shoal") else ".", 2)[2] for one in minted]
        assert len(set(secrets)) == 4, "an answer with a secret is not kept, so a repeated request mints anew"
        shown = b"".join(
            [(await served.ask("GET", path)).body for path in ("/v1/tokens", "/v1/join-tokens", "/v1/audit")]
        )
        await served.store.write(lambda tx: tx.put("Other", "flush", b"{}"))
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("shoal.db*"))
        for secret in secrets:
            assert secret.encode() not in shown + kept

    run(test)


def test_join_tokens_are_listed_and_revoked(run: Any) -> None:
    async def test(served: Any) -> None:
        minted = await mint(served, ttl="1h")
        assert [one["id"] for one in (await served.ask("GET", "/v1/join-tokens")).json["items"]] == [minted["id"]]
        assert (await served.ask("DELETE", f"/v1/join-tokens/{minted['id']}")).status == 200
        assert (await served.ask("DELETE", f"/v1/join-tokens/{minted['id']}")).code == "not-found"
        assert (await join(served, minted["token"])).status == 401

    run(test)


@pytest.mark.parametrize("request_", [{"ttl": "8d"}, {"ttl": "1s"}, {"ttl": 900}, {"node": "Not A Name"}, {"uses": 2}])
def test_wrong_token_requests_are_told(run: Any, request_: dict[str, object]) -> None:
    async def test(served: Any) -> None:
        assert (await served.ask("POST", "/v1/join-tokens", request_)).code == "invalid-description"

    run(test)


def test_an_api_token_has_its_role_until_it_is_revoked(run: Any) -> None:
    async def test(served: Any) -> None:
        made = (await served.ask("POST", "/v1/tokens", {"role": "deployer", "subject": "ci", "ttl": "1h"})).json
        headers = {"Authorization": f"Bearer {made['token']}"}
        assert (await served.ask("GET", "/v1/nodes", role=None, **headers)).status == 200
        assert (await served.ask("GET", "/v1/audit", role=None, **headers)).status == 403
        assert (await served.ask("DELETE", f"/v1/tokens/{made['id']}")).status == 200
        assert (await served.ask("GET", "/v1/nodes", role=None, **headers)).status == 401

    run(test)


@pytest.mark.parametrize(
    "request_", [{"role": "agent", "subject": "x"}, {"role": "root", "subject": "x"}, {"role": "viewer"}]
)
def test_roles_that_people_cannot_have_are_refused(run: Any, request_: dict[str, object]) -> None:
    async def test(served: Any) -> None:
        assert (await served.ask("POST", "/v1/tokens", request_)).code == "invalid-description"

    run(test)


def test_tokens_end_at_their_time(tmp_path: Path) -> None:
    clock = Clock()
    database = Database(f"sqlite:///{tmp_path}/shoal.db", now_s=clock)
    token = database.write(lambda tx: tokens.issue(tx, Role.VIEWER, "x", ttl_s=60)).result()
    now_ms = int(clock.now_s * 1000)
    found = database.read(lambda tx: (tokens.find(tx, token, now_ms), tokens.find(tx, token, now_ms + 60_000))).result()
    database.close()
    assert found[0] is not None
    assert (found[0].role, found[0].subject, found[1]) == (Role.VIEWER, "x", None)


def test_join_tokens_end_at_their_time_and_are_swept(tmp_path: Path) -> None:
    clock = Clock()
    database = Database(f"sqlite:///{tmp_path}/shoal.db", now_s=clock)
    token, _ = database.write(lambda tx: join_tokens.issue(tx, ttl_s=60)).result()
    clock.now_s += 61
    with pytest.raises(UnauthorizedError):
        database.write(lambda tx: join_tokens.check(tx, token, nonce="n", node="a")).result()
    database.write(lambda tx: join_tokens.issue(tx, ttl_s=60)).result()
    assert database.read(lambda tx: tx.count(join_tokens.JOIN_TOKEN_KIND)).result() == 1
    database.close()


def test_the_first_start_writes_the_admin_token_for_its_owner_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/shoal.db")
    path = tmp_path / "state" / "admin.token"
    assert database.write(lambda tx: tokens.ensure_admin(tx, path)).result()
    token = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    principal = database.read(lambda tx: tokens.find(tx, token, 0)).result()
    assert principal is not None
    assert (principal.role, principal.subject) == (Role.SLICE_ADMIN, "admin")
    assert not database.write(lambda tx: tokens.ensure_admin(tx, path)).result(), "only once"
    assert path.read_text().strip() == token
    database.close()
