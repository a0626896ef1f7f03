"""Joining: one token lets one node in, once; the same request again, after a lost reply, gets the same uid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shoal.control_plane.api import join_tokens, tokens
from shoal.control_plane.api.refusals import UnauthorizedError
from shoal.control_plane.documents import from_row, with_status
from shoal.control_plane.enrolment import Enrolled, enrol
from shoal.control_plane.store.store import Store
from shoal.descriptions.errors import RefusedError
from shoal.descriptions.kinds import Node
from shoal.descriptions.kinds.node import NodeStatus
from shoal.descriptions.messages.joining import JoinRequest
from shoal.descriptions.messages.reported import DeviceReport, Inventory

INVENTORY = Inventory(
    architecture="aarch64", cpu=4.0, memory_bytes=8 << 30, sensors=(DeviceReport("camera", "imx219"),)
)


def request(name: str = "pi-1", nonce: str = "first") -> JoinRequest:
    return JoinRequest(name=name, nonce=nonce, inventory=INVENTORY, agent_version="0.1.0", layer="far-edge")


def with_store(tmp_path: Path, test: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        async with await Store.open(f"sqlite:///{tmp_path / 'shoal.db'}") as store:
            await test(store)

    asyncio.run(run())


async def mint(store: Store, node: str = "") -> str:
    return await store.write(lambda tx: join_tokens.issue(tx, ttl_s=900, node=node)[0])


async def join(store: Store, token: str, asked: JoinRequest) -> Enrolled:
    return await store.write(lambda tx: enrol(tx, asked, token, "r1", "test"))


async def set_phase(store: Store, name: str, uid: str, phase: str) -> None:
    row = await store.get("Node", name)
    assert row is not None
    status = NodeStatus.model_validate({"uid": uid, "phase": phase})
    await store.write(lambda tx: tx.put("Node", name, with_status(row, status)))


def test_a_new_node_is_written_with_what_was_found(tmp_path: Path) -> None:
    async def check(store: Store) -> None:
        joined = await join(store, await mint(store), request())
        row = await store.get("Node", "pi-1")
        assert row is not None
        node = from_row(row, Node)
        assert node.spec.layer == "far-edge"
        assert node.status is not None
        assert node.status.uid == joined.uid
        assert node.status.hardware.memory == 8 << 30
        assert [one.model for one in node.status.sensors] == ["imx219"]
        principal = await store.read(lambda tx: tokens.find(tx, joined.api_token, 0))
        assert principal is not None
        assert (principal.role.value, principal.node_uid) == ("agent", joined.uid)

    with_store(tmp_path, check)


def test_a_token_is_spent_by_its_use(tmp_path: Path) -> None:
    async def check(store: Store) -> None:
        token = await mint(store)
        await join(store, token, request())
        with pytest.raises(UnauthorizedError):
            await join(store, token, request("pi-2", nonce="second"))
        assert await store.get("Node", "pi-2") is None

    with_store(tmp_path, check)


def test_a_lost_reply_is_answered_again_with_the_same_uid_and_the_old_token_dies(tmp_path: Path) -> None:
    async def check(store: Store) -> None:
        token = await mint(store)
        first = await join(store, token, request())
        again = await join(store, token, request())
        assert again.uid == first.uid
        assert await store.read(lambda tx: tokens.find(tx, first.api_token, 0)) is None
        assert await store.read(lambda tx: tokens.find(tx, again.api_token, 0)) is not None

    with_store(tmp_path, check)


@pytest.mark.parametrize(("phase", "is_taken"), [("ready", True), ("suspect", True), ("lost", False), ("left", False)])
def test_a_name_is_free_once_its_node_is_gone(tmp_path: Path, phase: str, is_taken: bool) -> None:
    async def check(store: Store) -> None:
        first = await join(store, await mint(store), request())
        await set_phase(store, "pi-1", first.uid, phase)
        token = await mint(store)
        if is_taken:
            with pytest.raises(RefusedError, match="living node"):
                await join(store, token, request(nonce="second"))
            return
        second = await join(store, token, request(nonce="second"))
        assert second.uid > first.uid, "uids are never reused and sort by time of joining"
        assert await store.read(lambda tx: tokens.find(tx, first.api_token, 0)) is None

    with_store(tmp_path, check)


def test_a_token_for_another_name_lets_nobody_in(tmp_path: Path) -> None:
    async def check(store: Store) -> None:
        token = await mint(store, node="pi-9")
        with pytest.raises(UnauthorizedError):
            await join(store, token, request())
        await join(store, token, request("pi-9"))

    with_store(tmp_path, check)


def test_a_removed_node_is_not_raised_by_its_old_token(tmp_path: Path) -> None:
    async def check(store: Store) -> None:
        token = await mint(store)
        await join(store, token, request())
        await store.write(lambda tx: tx.delete("Node", "pi-1"))
        with pytest.raises(RefusedError, match="new join token"):
            await join(store, token, request())

    with_store(tmp_path, check)
