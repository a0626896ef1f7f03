"""The core in a small world, with its invariants checked again when a test ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Harness


@pytest.fixture
def world() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.release()
    harness.check()
