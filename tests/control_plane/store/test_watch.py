"""Watches: every change once and in order, whether they keep up, come late, or come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shoal.control_plane.store import feed
from shoal.control_plane.store.database import StoreOptions
from shoal.control_plane.store.errors import HistoryError
from shoal.control_plane.store.feed import Watch
from shoal.control_plane.store.records import Change, EventEntry, Logged, Operation, Retention, RetentionLimits
from shoal.control_plane.store.store import Store

NEVER = 1e9
FEW_TOMBSTONES = RetentionLimits(tombstones=Retention(rows_max=0, age_s_max=NEVER))


def with_store(url: str, test: Callable[[Store], Awaitable[None]], limits: RetentionLimits | None = None) -> None:
    async def run() -> None:
        options = StoreOptions(retention=limits or RetentionLimits())
        async with asyncio.timeout(30), await Store.open(url, options=options) as store:
            await test(store)

    asyncio.run(run())


async def put(store: Store, name: str, doc: bytes = b"{}", kind: str = "Node") -> int:
    return (await store.write(lambda tx: tx.put(kind, name, doc))).resource_version


async def append(store: Store, entry: EventEntry) -> Logged[EventEntry]:
    return await store.write(lambda tx: tx.append_event(entry))


async def delete(store: Store, name: str) -> None:
    await store.write(lambda tx: tx.delete("Node", name))


async def take(watch: Watch[Change], count: int) -> list[tuple[str, str]]:
    return [(change.operation.value, change.object.name) for change in [await anext(watch) for _ in range(count)]]


def test_a_watch_gets_every_change_in_order(url: str) -> None:
    async def test(store: Store) -> None:
        watch = store.watch(0)
        await put(store, "a")
        await put(store, "b")
        await put(store, "a", b"new")
        await delete(store, "b")
        assert await take(watch, 4) == [("put", "a"), ("put", "b"), ("put", "a"), ("delete", "b")]

    with_store(url, test)


def test_a_write_is_told_before_it_is_acknowledged(url: str) -> None:
    async def test(store: Store) -> None:
        watch = store.watch(0)
        version = await put(store, "a")
        assert store.head == version
        assert [change.version for change in await watch.ready()] == [version]

    with_store(url, test)


def test_a_watch_names_its_kinds(url: str) -> None:
    async def test(store: Store) -> None:
        watch = store.watch(0, {"Node", "Model"})
        for kind in ("Node", "Slice", "Model", "Slice"):
            await put(store, "a", kind=kind)
        assert [(await anext(watch)).object.kind for _ in range(2)] == ["Node", "Model"]
        assert await watch.batch(0.01) == ()
        assert watch.version == store.head, "it moves on over what it doesn't want"

    with_store(url, test)


def test_a_watch_wakes_when_something_comes(url: str) -> None:
    async def test(store: Store) -> None:
        watch = store.watch(store.head)
        waiting = asyncio.create_task(take(watch, 1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await put(store, "a")
        assert await waiting == [("put", "a")]

    with_store(url, test)


def test_a_watch_that_was_away_gets_what_counts_now(url: str) -> None:
    """After a restart the ring is empty: the database gives each object's latest state, and deletes."""
    seen: list[int] = []

    async def before(store: Store) -> None:
        for name in ("kept", "changed", "deleted", "remade"):
            await put(store, name)
        seen.append(store.head)
        await put(store, "changed", b"1")
        await put(store, "changed", b"2")
        await delete(store, "deleted")
        await delete(store, "remade")
        await put(store, "remade", b"again")

    async def after(store: Store) -> None:
        watch = store.watch(seen[0])
        changes = [await anext(watch) for _ in range(4)]
        assert [(change.operation.value, change.object.name, change.object.doc) for change in changes] == [
            ("put", "changed", b"2"),
            ("delete", "deleted", b"{}"),
            ("delete", "remade", b"{}"),
            ("put", "remade", b"again"),
        ]
        versions = [change.version for change in changes]
        assert versions == sorted(set(versions))
        await put(store, "live")
        assert await take(watch, 1) == [("put", "live")], "no gap and no repetition between past and present"

    with_store(url, before)
    with_store(url, after)


def test_a_watch_from_zero_begins_with_everything(url: str) -> None:
    async def before(store: Store) -> None:
        await store.write(lambda tx: [tx.put("Node", f"n{index:04}", b"{}") for index in range(1100)])

    async def after(store: Store) -> None:
        watch = store.watch(0)
        found = [(await anext(watch)).object.name for _ in range(1100)]
        assert found == [f"n{index:04}" for index in range(1100)], "over several reads of the database"

    with_store(url, before)
    with_store(url, after)


def test_a_slow_watch_falls_back_to_the_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RING_ITEMS_MAX", 4)

    async def test(store: Store) -> None:
        watch = store.watch(0)
        for number in range(40):
            await put(store, f"n{number % 10}", str(number).encode())
        states: dict[str, bytes] = {}
        last = 0
        while last < store.head:
            change = await anext(watch)
            assert change.version > last
            last, states[change.object.name] = change.version, change.object.doc
        assert states == {f"n{number % 10}": str(number).encode() for number in range(30, 40)}

    with_store(url, test)


def test_forgotten_deletes_ask_for_a_new_list(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RING_ITEMS_MAX", 1)
    monkeypatch.setattr("shoal.control_plane.store.retention.SLACK_ROWS", 0)

    async def test(store: Store) -> None:
        first = await put(store, "a")
        await delete(store, "a")
        await put(store, "b")
        await put(store, "c")
        with pytest.raises(HistoryError) as caught:
            await anext(store.watch(first))
        assert caught.value.since == first
        assert await take(store.watch(0), 2) == [("put", "b"), ("put", "c")], "whoever knows nothing missed no delete"
        assert await take(store.watch(caught.value.oldest), 2) == [("put", "b"), ("put", "c")]

    with_store(url, test, FEW_TOMBSTONES)


def test_a_version_of_the_future_asks_for_a_new_list(url: str) -> None:
    """A client that saw more than the database knows has seen one that was since restored from a backup."""

    async def test(store: Store) -> None:
        await put(store, "a")
        with pytest.raises(HistoryError):
            store.watch(99)

    with_store(url, test)


def test_closing_ends_the_watches(url: str) -> None:
    async def run() -> list[str]:
        store = await Store.open(url)
        waiting = asyncio.create_task(collect(store.watch(0)))
        await put(store, "a")
        await store.close()
        return await asyncio.wait_for(waiting, 10)

    async def collect(watch: Watch[Change]) -> list[str]:
        return [change.object.name async for change in watch]

    assert asyncio.run(run()) == ["a"]


def test_events_are_followed_like_objects(url: str) -> None:
    async def test(store: Store) -> None:
        def wanted(row: Logged[EventEntry]) -> bool:
            return row.entry.node == "edge-1"

        past = await append(store, EventEntry("Past", "", node="edge-1"))
        watch = store.watch_events(0, wanted)
        await append(store, EventEntry("Other", "", node="edge-2"))
        await append(store, EventEntry("Now", "", node="edge-1"))
        assert [(await anext(watch)).entry.reason for _ in range(2)] == ["Past", "Now"]
        later = store.watch_events(past.version, wanted)
        assert [row.entry.reason for row in await later.batch(5)] == ["Now"]

    with_store(url, test)


def test_pruned_events_are_missed_loudly(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RING_ITEMS_MAX", 1)
    monkeypatch.setattr("shoal.control_plane.store.retention.SLACK_ROWS", 0)
    limits = RetentionLimits(events=Retention(rows_max=2, age_s_max=NEVER))

    async def test(store: Store) -> None:
        for number in range(5):
            await append(store, EventEntry(f"E{number}", ""))
        with pytest.raises(HistoryError):
            await anext(store.watch_events(1, lambda _: True))
        everything = store.watch_events(0, lambda _: True)
        assert [(await anext(everything)).entry.reason for _ in range(2)] == ["E3", "E4"]

    with_store(url, test, limits)


def test_many_writers_and_watchers_agree(url: str) -> None:
    """Whatever the interleaving, each watch rebuilds exactly the objects that the store holds in the end."""

    async def rebuild(watch: Watch[Change], until: asyncio.Event, store: Store) -> dict[str, bytes]:
        state: dict[str, bytes] = {}
        last = 0
        while not (until.is_set() and watch.version >= store.head):
            for change in await watch.batch(0.05):
                assert change.version > last
                last = change.version
                if change.operation is Operation.PUT:
                    state[change.object.name] = change.object.doc
                else:
                    del state[change.object.name]
        return state

    async def churn(store: Store, seed: int) -> None:
        for step in range(40):
            name = f"n{seed}-{step % 5}"
            if step % 7 == 6:
                await delete(store, f"n{seed}-{(step - 1) % 5}")
            await put(store, name, f"{seed}:{step}".encode())

    async def test(store: Store) -> None:
        done = asyncio.Event()
        watchers = [asyncio.create_task(rebuild(store.watch(0), done, store)) for _ in range(5)]
        await asyncio.gather(*(churn(store, seed) for seed in range(8)))
        done.set()
        truth = {row.name: row.doc for row in await store.all("Node")}
        assert await asyncio.gather(*watchers) == [truth] * 5

    with_store(url, test)


def test_the_blobs_lie_beside_the_database(url: str, tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        assert (tmp_path / "blobs").is_dir()
        assert store.failed is None

    with_store(url, test)
