"""Small slices to try policies in: a mixed one, and those at the edges where policies break.

Made from a seed, without a control plane: `checks.py` and authors' own tests use them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..descriptions.kinds.application import Application
from ..descriptions.kinds.slice import Slice
from ..descriptions.mechanism import Options, Status, VerbOption
from ..descriptions.messages.codec import encode
from ..descriptions.messages.reported import MechanismReport
from .network import LinkFacts, Network
from .node_table import COLUMNS, table_of
from .reading import Metrics, MetricUse, Reading, Statistic
from .relations import relations_of
from .request import request_of
from .view import Device, NodeFacts, Replica, Replicas, View

GIB = 1024**3
LAYERS = ("cloud", "edge-infrastructure", "edge", "far-edge")

SLICE = Slice.model_validate({"metadata": {"name": "trial"}, "spec": {"targets": [{"metric": "co2", "target": 5}]}})

APPLICATION = Application.model_validate(
    {
        "metadata": {"name": "shop"},
        "spec": {
            "components": [
                {
                    "name": "camera",
                    "process": {"command": ["camera"]},
                    "resources": {"cpu": 0.25, "memory": GIB // 8},
                    "interactions": [{"to": "classify", "latency": 0.02}],
                },
                {
                    "name": "classify",
                    "inference": {"model": "digits"},
                    "replicas": 3,
                    "resources": {"cpu": 0.5, "memory": GIB // 2},
                    "qos": [{"metric": "shoal.model.latency", "statistic": "p95", "target": 20.0}],
                },
                {"name": "report", "process": {"command": ["report"]}},
            ]
        },
    }
)
"""What is placed in every world: a camera that talks to a classifier, and something that asks for nothing."""


@dataclass(frozen=True)
class World:
    """One slice, as a view of its application; `component` picks what is being decided."""

    name: str
    view: View

    def of(self, component: str) -> View:
        """The view for deciding one component."""
        part = next(one for one in APPLICATION.spec.components if one.name == component)
        fields = {name: getattr(self.view, name) for name in self.view.__struct_fields__}
        return View(**{**fields, "request": request_of(part, None)})


@dataclass(frozen=True)
class Made:
    """One node to be."""

    facts: NodeFacts
    capacity: tuple[int, int, int]
    """Millicores, bytes of memory, bytes of disk."""
    used: float = 0.0
    links: tuple[LinkFacts, ...] = ()
    is_bare: bool = False
    """Nothing is described that can be left out."""


class Invented:
    """Readings of the declared metrics, the same for the same question; others are an error of the policy."""

    def __init__(self, declared: Sequence[MetricUse]) -> None:
        self._declared = {(use.metric, use.statistic, use.window_s) for use in declared}
        self.undeclared: set[str] = set()

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        """A number between 0 and 100, for two questions of three."""
        if (metric, statistic, window_s) not in self._declared:
            self.undeclared.add(f"{metric} {statistic} over {window_s:g} s")
            return None
        chance = random.Random(f"{metric}/{statistic}/{node}/{component}")
        return None if chance.random() < 1 / 3 else Reading(chance.uniform(0, 100), chance.uniform(0, 5), 12)


def mixed(count: int, metrics: Metrics, *, seed: int = 0, is_reversed: bool = False) -> World:
    """Nodes of all layers, some used; `is_reversed` puts the same nodes in the opposite order."""
    chance = random.Random(seed)
    nodes = [_mixed_node(at, chance) for at in range(count)]
    if is_reversed:
        nodes.reverse()
    name = f"{count} mixed nodes" + (" in reverse" if is_reversed else "")
    return World(name, view_of(nodes, metrics, replicas=min(count, 4)))


def edges(metrics: Metrics) -> tuple[World, ...]:
    """One node, full nodes, and nodes that describe nothing."""
    bare = [Made(NodeFacts(f"n{at}", "edge"), (0, 0, 0), is_bare=True) for at in range(3)]
    full = [Made(NodeFacts(f"n{at}", "edge"), (4000, 8 * GIB, 100 * GIB), used=1.0) for at in range(3)]
    alone = [_mixed_node(0, random.Random(1))]
    return (
        World("one node", view_of(alone, metrics, replicas=0)),
        World("nodes that describe nothing", view_of(bare, metrics, replicas=1)),
        World("full nodes", view_of(full, metrics, replicas=2)),
    )


def _mixed_node(at: int, chance: random.Random) -> Made:
    layer = chance.choice(LAYERS)
    cores = {"cloud": 64, "edge-infrastructure": 16, "edge": 8, "far-edge": 4}[layer]
    facts = NodeFacts(
        name=f"node-{at:04d}",
        layer=layer,
        cluster=f"c{at // 10}",
        datacenter=f"d{at // 40}",
        architecture=chance.choice(["x86_64", "aarch64"]),
        labels={"zone": f"z{at % 3}"} if chance.random() < 0.8 else {},
        accelerators=(Device("gpu", "a2", 2, 16 * GIB),) if chance.random() < 0.2 else (),
        sensors=(Device("camera", "c1"),) if layer == "far-edge" else (),
    )
    links = (LinkFacts("*", chance.uniform(0.002, 0.08), 1e8),) if chance.random() < 0.8 else ()
    return Made(facts, (cores * 1000, cores * 2 * GIB, 500 * GIB), chance.choice([0.0, 0.3, 0.7, 1.0]), links)


def view_of(nodes: Sequence[Made], metrics: Metrics, *, replicas: int) -> View:
    """A view of these nodes, with replicas on the first of them by name."""
    facts = [one.facts for one in nodes]
    clusters = tuple(sorted({one.cluster for one in facts} - {""}))
    datacenters = tuple(sorted({one.datacenter for one in facts} - {""}))
    kinds = tuple(
        sorted({Device(d.type, d.model, 0, d.memory_bytes) for one in facts for d in one.accelerators}, key=repr)
    )
    standing = _replicas(facts, replicas)
    columns = _columns(nodes, (LAYERS, clusters, datacenters), standing)
    free = [[sum(d.count for d in one.accelerators if d.type == kind.type) for kind in kinds] for one in facts]
    table = table_of(
        facts,
        columns,
        np.array(free, dtype=np.int64).reshape(len(facts), len(kinds)),
        domains=(LAYERS, clusters, datacenters),
        accelerator_kinds=kinds,
    )
    return View(
        now_s=1000.0,
        wall=datetime(2026, 1, 1, 12, tzinfo=UTC),
        seed=7,
        slice=Slice.model_validate(
            {"metadata": {"name": "trial"}, "spec": {"targets": [{"metric": "co2", "target": 5}]}}
        ),
        application=APPLICATION,
        request=request_of(APPLICATION.spec.components[1], None),
        relations=relations_of(APPLICATION),
        nodes=table,
        network=Network(table, [one.links for one in nodes]),
        replicas=standing,
        metrics=metrics,
        reports={one.name: (_report(),) for one in facts},
    )


def _replicas(facts: Sequence[NodeFacts], count: int) -> Replicas:
    """One replica on each of the first nodes by name, of the classifier and the camera in turn."""
    rows = sorted(range(len(facts)), key=lambda row: facts[row].name)[:count]
    standing = Replicas()
    for at, row in enumerate(rows):
        component = ("classify", "camera")[at % 2]
        standing.insert(Replica(f"shop.{component}.{at}", "shop", component, facts[row].name, row, True))
    return standing


def _columns(
    nodes: Sequence[Made], domains: tuple[tuple[str, ...], ...], standing: Replicas
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {name: np.zeros(len(nodes), dtype=kind) for name, kind in COLUMNS.items()}
    for row, one in enumerate(nodes):
        chance = random.Random(one.facts.name)
        for name, value in zip(("cpu_millis", "memory_bytes", "disk_bytes"), one.capacity, strict=True):
            columns[name][row] = value
            columns[f"{name}_free"][row] = value - int(value * one.used)
        for name, known, of in zip(
            ("layer_code", "cluster_code", "datacenter_code"),
            domains,
            (one.facts.layer, one.facts.cluster, one.facts.datacenter),
            strict=True,
        ):
            columns[name][row] = known.index(of) if of in known else -1
        told = {
            "latitude": chance.uniform(-60, 60),
            "longitude": chance.uniform(-180, 180),
            "energy_price_per_kwh": chance.uniform(0.05, 0.5),
            "co2_g_per_kwh": chance.uniform(0, 500),
        }
        for name, number in told.items():
            columns[name][row] = math.nan if one.is_bare else number
        columns["price_per_h"][row] = 0.0 if one.is_bare else chance.uniform(0, 2)
        columns["power_w_max"][row] = 0.0 if one.is_bare else chance.uniform(5, 300)
    for replica in standing.all():
        columns["replicas"][replica.row] += 1
        columns["siblings"][replica.row] += replica.component == "classify"
    return columns


def _report() -> MechanismReport:
    offered = Options(verbs=(VerbOption("setFrequency", "CPU frequency in MHz"),))
    return MechanismReport("cpufreq", ("setFrequency",), encode(offered).decode(), encode(Status()).decode())
