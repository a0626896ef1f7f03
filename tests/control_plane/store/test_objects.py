"""Objects: create, replace, delete, list; versions, generations, uids and optimistic concurrency."""

from __future__ import annotations

from uuid import UUID

import pytest

from shoal.control_plane.store.database import Database
from shoal.control_plane.store.errors import ConflictError, StoreError, StoreFailure
from shoal.control_plane.store.records import DOC_BYTES_MAX, Put, StoredObject
from shoal.control_plane.store.transaction import Transaction, new_uid


def put(database: Database, name: str, doc: bytes = b"{}", **more: object) -> StoredObject:
    return database.write(lambda tx: tx.put("Node", name, doc, **more)).result()  # type: ignore[arg-type]


def test_a_new_object_starts_at_generation_one(database: Database) -> None:
    made = put(database, "a")
    assert (made.kind, made.name, made.generation, made.doc) == ("Node", "a", 1, b"{}")
    assert made.resource_version == 1
    assert UUID(made.uid).version == 7
    assert database.read(lambda tx: tx.get("Node", "a")).result() == made


def test_replacing_grows_the_version_and_keeps_the_uid(database: Database) -> None:
    made, replaced = put(database, "a"), put(database, "a", b"[]")
    assert replaced.resource_version > made.resource_version
    assert (replaced.uid, replaced.created_ms, replaced.generation) == (made.uid, made.created_ms, 1)


def test_generation_grows_only_when_the_writer_says_so(database: Database) -> None:
    put(database, "a")
    assert put(database, "a", b"1").generation == 1
    assert put(database, "a", b"2", new_generation=True).generation == 2


def test_writing_the_same_again_changes_nothing(database: Database) -> None:
    made = put(database, "a")
    assert put(database, "a") == made
    assert database.read(lambda tx: tx.version).result() == made.resource_version


def test_a_deleted_and_remade_object_has_another_uid(database: Database) -> None:
    made = put(database, "a")
    assert database.write(lambda tx: tx.delete("Node", "a")).result() == made
    assert database.read(lambda tx: tx.get("Node", "a")).result() is None
    remade = put(database, "a")
    assert remade.uid != made.uid
    assert remade.generation == 1
    assert remade.resource_version > made.resource_version + 1, "the delete took a version too"


@pytest.mark.parametrize(
    ("expected", "exists", "current"),
    [(0, True, 1), (2, True, 1), (1, False, None), (7, False, None)],
    ids=["must be absent", "stale", "gone", "never there"],
)
def test_an_unexpected_version_is_refused(database: Database, expected: int, exists: bool, current: int | None) -> None:
    if exists:
        put(database, "a")
    with pytest.raises(ConflictError) as caught:
        put(database, "a", b"new", expected_version=expected)
    assert (caught.value.expected, caught.value.current) == (expected, current)
    kept = database.read(lambda tx: tx.get("Node", "a")).result()
    assert (kept.doc if kept else None) == (b"{}" if exists else None)


def test_the_expected_version_is_accepted(database: Database) -> None:
    made = put(database, "a", expected_version=0)
    assert put(database, "a", b"new", expected_version=made.resource_version).doc == b"new"


@pytest.mark.parametrize("expected", [None, 99])
def test_deleting_what_is_not_there_is_refused(database: Database, expected: int | None) -> None:
    with pytest.raises(ConflictError) as caught:
        database.write(lambda tx: tx.delete("Node", "a", expected_version=expected)).result()
    assert caught.value.current is None


def test_deleting_a_stale_version_is_refused(database: Database) -> None:
    put(database, "a")
    with pytest.raises(ConflictError):
        database.write(lambda tx: tx.delete("Node", "a", expected_version=99)).result()
    assert database.read(lambda tx: tx.get("Node", "a")).result() is not None


def test_put_many_mixes_new_changed_and_equal(database: Database) -> None:
    equal, changed = put(database, "equal"), put(database, "changed")
    puts = [Put("Node", "changed", b"1"), Put("Node", "equal", b"{}"), Put("Other", "new", b"2")]
    first, second, third = database.write(lambda tx: tx.put_many(puts)).result()
    assert (first.uid, first.doc) == (changed.uid, b"1")
    assert second == equal
    assert (third.kind, third.generation) == ("Other", 1)
    assert first.resource_version < third.resource_version


def test_put_many_is_all_or_nothing(database: Database) -> None:
    puts = [Put("Node", "a", b"1"), Put("Node", "b", b"1", expected_version=5)]
    with pytest.raises(ConflictError):
        database.write(lambda tx: tx.put_many(puts)).result()
    assert database.read(lambda tx: tx.all("Node")).result() == ()


def test_put_many_refuses_one_object_twice(database: Database) -> None:
    with pytest.raises(ValueError, match="twice"):
        database.write(lambda tx: tx.put_many([Put("Node", "a", b"1"), Put("Node", "a", b"2")])).result()


def test_put_many_reaches_beyond_one_select(database: Database) -> None:
    names = [f"n{index:04}" for index in range(1201)]
    database.write(lambda tx: tx.put_many([Put("Node", name, b"1") for name in names])).result()
    again = database.write(lambda tx: tx.put_many([Put("Node", name, b"2") for name in names])).result()
    assert {row.doc for row in database.read(lambda tx: tx.all("Node")).result()} == {b"2"}
    assert [row.resource_version for row in again] == list(range(1202, 2403))


def test_pages_go_through_all_objects_in_order_of_name(database: Database) -> None:
    names = ["a", "b", "b-1", "c", "d"]
    database.write(lambda tx: [tx.put("Node", name, b"{}") for name in reversed(names)]).result()
    put_elsewhere = database.write(lambda tx: tx.put("Other", "x", b"{}")).result()
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = database.read(lambda tx, after=after: tx.page("Node", after=after, limit=2)).result()  # type: ignore[misc]
        assert page.version == put_elsewhere.resource_version
        seen += [row.name for row in page.objects]
        after = page.next_name
    assert seen == names


def test_a_prefix_is_taken_literally(database: Database) -> None:
    for name in ("app.web.1", "app.web.2", "app-two.web.1", "appxweb", "app%"):
        put(database, name)
    assert [row.name for row in database.read(lambda tx: tx.with_prefix("Node", "app.")).result()] == [
        "app.web.1",
        "app.web.2",
    ]
    assert [row.name for row in database.read(lambda tx: tx.with_prefix("Node", "app%")).result()] == ["app%"]


def test_an_object_is_found_by_its_uid(database: Database) -> None:
    made = put(database, "a", uid="node-uid")
    assert made.uid == "node-uid"
    assert database.read(lambda tx: tx.get_by_uid("node-uid")).result() == made
    assert database.read(lambda tx: tx.get_by_uid("other")).result() is None


def test_a_uid_is_never_given_twice(database: Database) -> None:
    put(database, "a", uid="node-uid")
    with pytest.raises(StoreError) as caught:
        put(database, "b", uid="node-uid")
    assert caught.value.failure is StoreFailure.DUPLICATE
    assert put(database, "b").name == "b", "the writer goes on"


@pytest.mark.parametrize(
    ("name", "doc", "told"),
    [("", b"", "1 to 253"), ("x" * 254, b"", "1 to 253"), ("a", b"x" * (DOC_BYTES_MAX + 1), "over the cap")],
    ids=["no name", "long name", "large document"],
)
def test_what_is_over_a_cap_is_refused(database: Database, name: str, doc: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        put(database, name, doc)


def test_a_job_sees_its_own_writes(database: Database) -> None:
    def job(tx: Transaction) -> tuple[bytes, int, int]:
        tx.put("Node", "a", b"1")
        tx.put("Node", "a", b"2")
        found = tx.get("Node", "a")
        assert found is not None
        return found.doc, found.resource_version, tx.version

    assert database.write(job).result() == (b"2", 2, 2)


def test_uids_sort_by_time_and_differ() -> None:
    uids = [new_uid(at_ms) for at_ms in (1, 2, 2, 3, 1 << 47)]
    assert len(set(uids)) == 5
    assert [uid[:13] for uid in uids] == sorted(uid[:13] for uid in uids)
    assert all(UUID(uid).variant == "specified in RFC 4122" for uid in uids)
