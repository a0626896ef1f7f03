"""Makes slices of any size for benches and tests: nodes of four layers, and applications that ask for real things.

Everything follows from a seed. Not part of the product's path: `bench.py` and the tests call it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from ...descriptions.kinds import Application, Model, Node, Slice
from ...descriptions.messages.reported import MechanismReport
from .snapshot import NodeState, Snapshot

GIB = 1024**3
MIB = 1024**2

OFFERED = (
    MechanismReport("inference", ("serve",), '{"verbs": [{"verb": "serve"}]}'),
    MechanismReport("process", ("run",), '{"verbs": [{"verb": "run"}]}'),
)
"""Mechanisms of every node of the fleet."""

_SIZES = {"cloud": (64, 256), "edge-infrastructure": (16, 64), "edge": (8, 16), "far-edge": (4, 8)}
"""Layer → cores and GiB of memory."""

_SHARES = (("cloud", 10), ("edge-infrastructure", 20), ("edge", 40), ("far-edge", 30))


def fleet(count: int, seed: int = 0) -> tuple[NodeState, ...]:
    """Nodes of all layers, in clusters of ten, with labels, prices and power."""
    chance = random.Random(seed)
    layers = chance.choices([layer for layer, _ in _SHARES], [share for _, share in _SHARES], k=count)
    return tuple(node_state(at, layer, chance) for at, layer in enumerate(layers))


def node_state(at: int, layer: str, chance: random.Random) -> NodeState:
    """One ready node."""
    cores, memory_gib = _SIZES[layer]
    name = f"node-{at:05d}"
    node = Node.model_validate(
        {
            "metadata": {"name": name, "labels": {"zone": f"z{at % 7}", "disk": chance.choice(["ssd", "hdd"])}},
            "spec": {
                "layer": layer,
                "cluster": f"c{at // 10}",
                "datacenter": f"d{at // 100}",
                "hardware": {"cpu": cores, "memory": memory_gib * GIB, "disk": 500 * GIB},
                "price": round(chance.uniform(0.05, 1.5), 3),
                "power": {
                    "idle": 4.0,
                    "max": 4.0 + cores * 3.0,
                    "sources": [{"name": "grid", "price": 0.25, "co2": chance.choice([30.0, 250.0, 420.0])}],
                },
                "network": [{"to": "*", "latency": 0.02}],
            },
        }
    )
    return NodeState(node, f"u{at:05d}", "ready", OFFERED)


def workloads(count: int, seed: int = 0, *, each: int = 1, in_each: int = 100) -> tuple[Application, ...]:
    """Applications of `in_each` components, `count` components in all, each different, with `each` replicas."""
    chance = random.Random(seed)
    components = [_component(at, each, chance) for at in range(count)]
    return tuple(
        Application.model_validate(
            {
                "metadata": {"name": f"app-{first // in_each:04d}"},
                "spec": {"components": components[first : first + in_each], "priority": chance.randrange(3)},
            }
        )
        for first in range(0, count, in_each)
    )


def _component(at: int, replicas: int, chance: random.Random) -> dict[str, object]:
    placement: dict[str, object] = {}
    if chance.random() < 0.5:
        placement["layers"] = chance.sample(["cloud", "edge-infrastructure", "edge", "far-edge"], 3)
    if chance.random() < 0.3:
        placement["labels"] = [{"key": "zone", "operator": "NotIn", "values": [f"z{chance.randrange(7)}"]}]
    if chance.random() < 0.2:
        placement["labels"] = [{"key": "disk", "values": ["ssd"]}]
    return {
        "name": f"part-{at:05d}",
        "inference": {"model": f"model-{at % 10}"},
        "replicas": replicas,
        "resources": {"cpu": chance.randrange(20, 300) / 1000, "memory": chance.randrange(16, 256) * MIB},
        "placement": placement,
    }


def models() -> tuple[Model, ...]:
    """The models that `workloads` serve."""
    spec = {"format": "onnx", "source": {"url": "https://models.example/m.onnx", "sha256": "0" * 64}}
    return tuple(Model.model_validate({"metadata": {"name": f"model-{at}"}, "spec": spec}) for at in range(10))


def snapshot_of(nodes: Sequence[NodeState], applications: Sequence[Application], *, version: int = 1) -> Snapshot:
    """A slice with these nodes and applications and nothing placed."""
    return Snapshot(
        version=version,
        now_s=0.0,
        wall=datetime(2026, 1, 1, 12, tzinfo=UTC),
        slice=Slice.model_validate({"metadata": {"name": "bench"}}),
        nodes=tuple(nodes),
        applications=tuple(applications),
        models=models(),
    )
