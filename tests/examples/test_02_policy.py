"""The example policy keeps the contract, decides in a process of its own, and its files are what the README says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shoal.control_plane.planner.decide import Planner
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.snapshot import Need, NodeState, Snapshot
from shoal.descriptions.kinds import Application, Node, Slice
from shoal.descriptions.load import load_paths
from shoal.descriptions.messages.reported import MechanismReport
from shoal.policies.checks import run_file
from shoal.policies.registry import PolicySettings

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "02-policy"


@pytest.fixture(scope="module")
def planner() -> Iterator[Planner]:
    with Policies(PolicySettings(folder=EXAMPLE)) as policies:
        yield Planner(policies)


@pytest.fixture(scope="module")
def described() -> Snapshot:
    """The example's nodes, all ready, and its application."""
    kinds = [one.kind for name in ("system.yaml", "application.yaml") for one in load_paths([EXAMPLE / name])]
    nodes = [one for one in kinds if isinstance(one, Node)]
    (slice_,) = (one for one in kinds if isinstance(one, Slice))
    states = tuple(NodeState(one, one.metadata.name, "ready", (MechanismReport("process"),)) for one in nodes)
    applications = tuple(one for one in kinds if isinstance(one, Application))
    return Snapshot(1, 0.0, datetime(2026, 1, 1, tzinfo=UTC), slice_, states, applications=applications)


def test_it_keeps_the_contract() -> None:
    report = run_file(EXAMPLE / "roomy.py")
    assert report.passed, report.lines()


def test_it_has_about_fifteen_lines() -> None:
    lines = (EXAMPLE / "roomy.py").read_text().partition("@dataclass")[2].splitlines()
    assert len([line for line in lines if line.strip()]) <= 15


def test_it_decides_and_explains_itself(planner: Planner, described: Snapshot) -> None:
    proposal = planner.decide(described, [Need("cache", "store", 2, "initial")])
    assert proposal.faults == ()
    assert [one.node_name for one in proposal.decisions[0].assignments] == ["large", "middling"]
    (small,) = planner.why(described, "cache", "store", "small").nodes
    assert [(one.constraint, one.reason) for one in small.failures] == [
        ("policy roomy", "512 MiB would be left, the reserve is 1024 MiB")
    ]
