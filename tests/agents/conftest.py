"""A control plane and an agent for each test that asks for them; see `harness.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.telemetry.broker_process import BrokerProcess

from .harness import AgentProcess, Plane


@pytest.fixture
def plane(embedded_broker: BrokerProcess) -> Iterator[Plane]:
    one = Plane(embedded_broker)
    one.connect()
    yield one
    one.close()


@pytest.fixture
def agent(tmp_path: Path, short_path: Path, plane: Plane) -> Iterator[AgentProcess]:
    """Not started yet."""
    one = AgentProcess(tmp_path / "agent", short_path / "run", plane.url)
    try:
        yield one
    finally:
        one.end()
