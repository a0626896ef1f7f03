"""Databases in the test's own folder, open and closed in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from shoal.control_plane.store.database import Database, StoreOptions

Open = Callable[..., AbstractContextManager[Database]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shoal.db"


@pytest.fixture
def opened(url: str) -> Open:
    """`with opened() as database:`; a second time it is the same file again."""

    @contextmanager
    def opening(options: StoreOptions | None = None, **more: object) -> Iterator[Database]:
        database = Database(url, options=options or StoreOptions(), **more)  # type: ignore[arg-type]
        try:
            yield database
        finally:
            database.close()

    return opening


@pytest.fixture
def database(opened: Open) -> Iterator[Database]:
    with opened() as database:
        yield database
