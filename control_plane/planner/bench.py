"""Measures placement: `shoal bench placement`. Every figure includes decision records and is the best of three runs.

A planner keeps the columns of the last snapshot, so throughput is measured with one that has seen the nodes; what it
costs to see them for the first time is a figure of its own. Skippy, the nearest scheduler in Python, runs in the same
run where it is installed.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...descriptions.kinds.meta import PluginUse
from ...policies.registry import PolicySettings
from ..placement import Placement
from .decide import Planner
from .fleet import fleet, snapshot_of, workloads
from .policies import Policies
from .skippy import skippy_placements_per_s
from .snapshot import Need, Snapshot

RUNS = 3

PER_NODE_POLICY = '''
from dataclasses import dataclass

from shoal.policies.policy import Policy, Rejection


@dataclass(frozen=True)
class Roomy(Policy):
    """Prefer nodes with much free memory and few replicas; refuse crowded ones."""

    replicas_max: int = 1000

    def filter(self, component, node, view):
        if node.replicas >= self.replicas_max:
            return Rejection(f"{node.replicas} replicas are here, at most {self.replicas_max}")
        return None

    def score(self, component, node, view):
        return node.memory_bytes_free / (1 + node.siblings)
'''


@dataclass(frozen=True)
class Figure:
    """One measured value with the bar that it should reach."""

    name: str
    value: float
    unit: str
    reach: dict[str, float] = field(default_factory=dict)


def run() -> list[Figure]:
    """Every figure of placement."""
    return [
        Figure(
            "1,000 nodes, 1,000 components × 10 replicas, balanced",
            throughput(1000, 1000, 10),
            "placements/s",
            {">=": 20_000},
        ),
        Figure(
            "1,000 nodes, 10,000 different components, balanced",
            throughput(1000, 10_000, 1),
            "placements/s",
            {">=": 8000},
        ),
        Figure(
            "10,000 nodes, 1,000 components × 10 replicas, balanced",
            throughput(10_000, 1000, 10),
            "placements/s",
            {">=": 3000},
        ),
        Figure("10,000 nodes, 2,000 different components, balanced", throughput(10_000, 2000, 1), "placements/s"),
        Figure(
            "1,000 nodes, per-node Python policy in its own process, 10 replicas each",
            plugin_throughput(1000, 200, 10),
            "placements/s",
            {">=": 1000},
        ),
        Figure("1,000 nodes, one decision over a new snapshot, p99", decision_ms(1000, 2000, 0.99), "ms", {"<": 10}),
        Figure("1,000 nodes, why a component is where it is, all nodes", why_ms(1000), "ms"),
        Figure("10,000 nodes seen for the first time", first_sight_ms(10_000), "ms"),
        *skippy(1000, 200),
    ]


def throughput(nodes: int, components: int, replicas: int) -> float:
    """Placements a second in one proposal."""
    snapshot, needs = case(nodes, components, replicas)
    planner = Planner(Policies())
    planner.table(snapshot)
    return components * replicas / _best_s(lambda: _all_placed(planner, snapshot, needs))


def plugin_throughput(nodes: int, components: int, replicas: int) -> float:
    """Placements a second with a policy that is asked about every node in plain Python, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "roomy.py").write_text(PER_NODE_POLICY)
        snapshot, needs = case(nodes, components, replicas, policy="roomy")
        with Policies(PolicySettings(folder=Path(folder))) as policies:
            planner = Planner(policies)
            planner.decide(snapshot, needs[:1])
            return components * replicas / _best_s(lambda: _all_placed(planner, snapshot, needs))


def decision_ms(nodes: int, decisions: int, quantile: float) -> float:
    """Time of one decision, each over a new snapshot in which the one before is committed."""
    snapshot, needs = case(nodes, decisions, 1)
    planner = Planner(Policies())
    planner.table(snapshot)
    took_s: list[float] = []
    for version, need in enumerate(needs, 2):
        begin_s = time.perf_counter()
        proposal = planner.decide(snapshot, [need])
        took_s.append(time.perf_counter() - begin_s)
        (decision,) = proposal.decisions
        one = decision.assignments[0]
        row = Placement(
            f"{need.key}.1", need.application, need.component, 1, one.node_uid, one.node_name, 1, reserved=one.reserved
        )
        snapshot = replace(snapshot, version=version, placements=(*snapshot.placements, row))
    return sorted(took_s)[int(quantile * len(took_s))] * 1000


def why_ms(nodes: int) -> float:
    """Time of the full table for one component."""
    snapshot, needs = case(nodes, 100, 1)
    planner = Planner(Policies())
    planner.table(snapshot)
    return _best_s(lambda: planner.why(snapshot, needs[0].application, needs[0].component)) * 1000


def first_sight_ms(nodes: int) -> float:
    """Time to read all nodes of a slice into columns."""
    snapshot, _ = case(nodes, 1, 1)
    return _best_s(lambda: Planner(Policies()).table(snapshot)) * 1000


def skippy(nodes: int, pods: int) -> list[Figure]:
    """Skippy over as many nodes; nothing where it isn't installed."""
    value = skippy_placements_per_s(nodes, pods)
    return [] if value is None else [Figure(f"{nodes:,} nodes, Skippy (edgerun-skippy-core)", value, "placements/s")]


def case(nodes: int, components: int, replicas: int, *, policy: str = "balanced") -> tuple[Snapshot, list[Need]]:
    """A slice with nothing placed, and a need for each component."""
    applications = workloads(components, each=replicas)
    snapshot = snapshot_of(fleet(nodes), applications)
    spec = snapshot.slice.spec.model_copy(update={"policies": (PluginUse(use=policy),)})
    snapshot = replace(snapshot, slice=snapshot.slice.model_copy(update={"spec": spec}))
    needs = [
        Need(one.metadata.name, part.name, replicas, "initial") for one in applications for part in one.spec.components
    ]
    return snapshot, needs


def _all_placed(planner: Planner, snapshot: Snapshot, needs: Sequence[Need]) -> None:
    proposal = planner.decide(snapshot, needs)
    assert not proposal.faults, proposal.faults
    assert not any(decision.unplaced for decision in proposal.decisions), "the bench is about placing"


def _best_s(work: Callable[[], object]) -> float:
    """Shortest of some runs: what others do on the machine only ever makes it longer."""
    took_s = []
    for _ in range(RUNS):
        gc.collect()
        begin_s = time.perf_counter()
        work()
        took_s.append(time.perf_counter() - begin_s)
    return min(took_s)
