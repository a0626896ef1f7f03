"""What the world does to a database: damage, full disks, two owners, wrong URLs. Each is told in words that help."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from shoal.control_plane.store.database import Database, StoreOptions
from shoal.control_plane.store.errors import StoreError, StoreFailure
from shoal.control_plane.store.records import StoredObject
from shoal.control_plane.store.transaction import Transaction

Open = Callable[..., AbstractContextManager[Database]]


def put(name: str, doc: bytes) -> Callable[[Transaction], StoredObject]:
    return lambda tx: tx.put("Node", name, doc)


def fill(database: Database, rows: int = 200) -> None:
    for index in range(rows):
        database.write(put(f"n{index}", bytes([index % 251]) * 2000)).result()


def test_a_file_that_is_no_database_is_told_so(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "shoal.db").write_bytes(b"once upon a time " * 512)
    with pytest.raises(StoreError) as caught, opened():
        pass
    assert caught.value.failure is StoreFailure.CORRUPT
    assert str(tmp_path / "shoal.db") in str(caught.value)
    assert "backup" in str(caught.value)


def test_a_damaged_page_is_found_at_the_start(tmp_path: Path, opened: Open) -> None:
    with opened() as database:
        fill(database)
    path = tmp_path / "shoal.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught, opened():
        pass
    assert caught.value.failure is StoreFailure.CORRUPT


def test_a_full_disk_refuses_writes_and_keeps_what_was_there(opened: Open) -> None:
    with opened(StoreOptions(size_mib_max=1)) as database:
        with pytest.raises(StoreError) as caught:
            fill(database, 1000)
        assert caught.value.failure is StoreFailure.FULL
        assert "free space" in str(caught.value)
        kept = database.read(lambda tx: tx.count("Node")).result()
        assert kept > 100
        assert database.failed is None, "a full disk passes"
        database.write(lambda tx: [tx.delete("Node", row.name) for row in tx.all("Node")[:50]]).result()
        assert database.read(lambda tx: tx.count("Node")).result() == kept - 50
    with opened() as database:
        assert database.read(lambda tx: tx.count("Node")).result() == kept - 50
        fill(database, 1000)


def test_a_database_has_one_owner(opened: Open) -> None:
    with opened():
        with pytest.raises(StoreError) as caught, opened():
            pass
        assert caught.value.failure is StoreFailure.IN_USE
        assert f"process {os.getpid()}" in str(caught.value)
    with opened():
        pass


@pytest.mark.parametrize(
    "url",
    ["postgresql://user:secret@db/shoal", "sqlite://", "sqlite:///:memory:", "mysql://db/x", "shoal.db", "::"],
)
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Database(url)
    assert caught.value.failure is StoreFailure.UNSUPPORTED
    assert "sqlite:///" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    database = Database(f"sqlite:///{folder}/shoal.db")
    database.write(lambda tx: tx.put("Node", "a", b"{}")).result()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    database.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(modes) == 4, "database, log, shared memory, lock"
    assert set(modes.values()) == {0o600}
