"""Small slices in which everything that placement looks at occurs, and often collides.

Sizes are drawn by Hypothesis, so that a failing example shrinks; the rest follows from a seed, because drawing each
field would make an example twenty times as slow.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from shoal.control_plane.placement import AcceleratorHold, Placement, Reservation
from shoal.control_plane.planner.snapshot import Need, NodeState, Snapshot
from shoal.descriptions.kinds import Application
from shoal.descriptions.messages.reported import MechanismReport

from .small_slice import BOTH, GIB, app, model, node, part, placed, snapshot

LAYERS = ["cloud", "edge-infrastructure", "edge", "far-edge"]
TOPOLOGIES = ["node", "cluster", "datacenter", "layer"]
NAMES = ["a", "b", "c", "d"]
ENDS = ["*", "layer:edge", "cluster:x", "datacenter:p", "node:n0", "node:n1"]
ONLY_INFERENCE = (MechanismReport("inference", ("serve",)),)
LABELS: list[dict[str, Any]] = [
    {"key": "zone", "operator": "In", "values": ["eu", "uk"]},
    {"key": "zone", "operator": "NotIn", "values": ["eu"]},
    {"key": "zone", "operator": "Exists"},
    {"key": "zone", "operator": "DoesNotExist"},
    {"key": "rank", "operator": "Gt", "values": ["2"]},
    {"key": "rank", "operator": "Lt", "values": ["2"]},
]


def slice_of(nodes: int, parts: tuple[int, ...], replicas: int, seed: int) -> Snapshot:
    """`parts` are the numbers of components of each application."""
    chance = Random(seed)
    states = [_node(f"n{at}", chance) for at in range(nodes)]
    described = [_application(name, count, chance) for name, count in zip(("app", "other"), parts, strict=False)]
    quotas = chance.choice([{}, {}, {}, {"cpu": 3.0}, {"memory": 3 * GIB}, {"replicas": 3}])
    return snapshot(
        states,
        *described,
        placements=_placements(nodes, described, replicas, chance),
        slice_={"quotas": quotas, "policies": _policies(chance)},
        models=chance.choice([[], [model()], [model(memory=GIB)]]),
    )


def needs_of(there: Snapshot, count: int, seed: int) -> list[Need]:
    """Needs of described components, some that replace what runs."""
    chance = Random(seed)
    keys = [(one.metadata.name, part.name) for one in there.applications for part in one.spec.components]
    found = []
    for application, component in chance.sample(keys, min(count, len(keys))):
        mine = [row.id for row in there.placements if (row.application, row.component) == (application, component)]
        replaced = chance.sample(mine, chance.randint(0, len(mine)))
        wanted = max(len(replaced), chance.randint(1, 4))
        avoided = chance.choice([(), (), ("n0",), ("n1", "gone")])
        named = chance.choice(["", "", "", "n0", "gone"])
        found.append(Need(application, component, wanted, "initial", tuple(replaced), avoided, named))
    return found


seeds = st.integers(0, 2**32)
slices = st.builds(
    slice_of,
    st.integers(0, 6),
    st.lists(st.integers(1, 4), min_size=1, max_size=2).map(tuple),
    st.integers(0, 4),
    seeds,
)
slices_with_needs = st.tuples(slices, st.integers(0, 6), seeds).map(
    lambda drawn: (drawn[0], needs_of(drawn[0], drawn[1], drawn[2]))
)
"""What `decide` takes."""


def _some(chance: Random, values: list[Any], at_most: int) -> list[Any]:
    return chance.sample(values, chance.randint(0, min(at_most, len(values))))


def _node(name: str, chance: Random) -> NodeState:
    spec: dict[str, Any] = {
        "layer": chance.choice(LAYERS),
        "cluster": chance.choice([None, "x", "y"]),
        "datacenter": chance.choice([None, "p", "q"]),
        "hardware": {"cpu": chance.choice([None, 0.5, 1.0, 4.0]), "memory": chance.choice([GIB, 2 * GIB, 8 * GIB])},
        "network": [_link(end, chance) for end in _some(chance, ENDS, 3)],
        "accelerators": [_accelerator(chance) for _ in range(chance.choice([0, 1, 3]))],
        "sensors": chance.choice([[], [{"type": "camera", "count": 2}]]),
        "cordoned": chance.random() < 0.15,
        "price": chance.choice([0.0, 0.1, 1.0]),
    }
    labels: dict[str, str] = chance.choice([{}, {"zone": "eu"}, {"zone": "us", "rank": "3"}, {"rank": "x"}])
    phase = chance.choice(["ready"] * 6 + ["suspect", "lost"])
    return node(name, labels=labels, phase=phase, mechanisms=chance.choice([BOTH] * 4 + [ONLY_INFERENCE, ()]), **spec)


def _link(end: str, chance: Random) -> dict[str, Any]:
    qualities = {"latency": chance.choice([0.001, 0.01, 0.02, 0.1]), "bandwidth": chance.choice([1e3, 1e6, 1e9])}
    return {"to": end, **{key: qualities[key] for key in _some(chance, list(qualities), 2)}}


def _accelerator(chance: Random) -> dict[str, Any]:
    one = {"type": chance.choice(["gpu", "npu"]), "count": chance.randint(1, 3)}
    return {**one, **{key: value for key, value in (("model", "a"), ("memory", 8 * GIB)) if chance.random() < 0.5}}


def _application(name: str, count: int, chance: Random) -> Application:
    names = NAMES[:count]
    parts = [_component(one, [other for other in names if other != one], chance) for one in names]
    return app(*parts, name=name, priority=chance.randint(-1, 1))


def _component(name: str, others: list[str], chance: Random) -> dict[str, Any]:
    return part(
        name,
        **chance.choice([{}, {}, {}, {"inference": {"model": "digits"}}, {"container": {"image": "nginx"}}]),
        cpu=chance.choice([0, 0, 0.25, 0.7, 2]),
        memory=chance.choice([0, 0, GIB // 2, GIB]),
        disk=chance.choice([0, 0, 40 * GIB]),
        placement=_placement(name, others, chance),
        interactions=[_interaction(other, chance) for other in _some(chance, others, 1)],
        accelerators=[_accelerator(chance) for _ in range(chance.choice([0, 0, 0, 1, 2]))],
        sensors=chance.choice([[], [], [{"type": "camera"}], [{"type": "radar"}]]),
    )


def _placement(name: str, others: list[str], chance: Random) -> dict[str, Any]:
    apart = [_affinity(other, chance) for other in _some(chance, [name, *others], 1)]
    together = [other for other in others if other not in {one["component"] for one in apart}]
    wishes: dict[str, Any] = {
        "layers": _some(chance, LAYERS, 3),
        "nodes": _some(chance, ["n0", "n1", "n2", "gone"], 3),
        "labels": _some(chance, LABELS, 2),
        "affinity": [_affinity(other, chance) for other in _some(chance, together, 1)],
        "antiAffinity": apart,
        "spread": [_spread(chance)] if chance.random() < 0.5 else [],
        "colocate": _some(chance, together, 1),
    }
    return {key: wishes[key] for key in _some(chance, list(wishes), 3)}


def _affinity(other: str, chance: Random) -> dict[str, Any]:
    return {"component": other, "topology": chance.choice(TOPOLOGIES), "required": chance.random() < 0.5}


def _spread(chance: Random) -> dict[str, Any]:
    skew = chance.randint(1, 2)
    return {"topology": chance.choice(TOPOLOGIES), "maxSkew": skew, "required": chance.random() < 0.5}


def _interaction(other: str, chance: Random) -> dict[str, Any]:
    targets = {"latency": chance.choice([0.005, 0.05]), "bandwidth": 1e5}
    wanted = {key: targets[key] for key in _some(chance, list(targets), 2)}
    return {"to": other, "required": chance.random() < 0.7, **wanted}


def _placements(nodes: int, described: list[Application], count: int, chance: Random) -> list[Placement]:
    rows = []
    for ordinal in range(1, count + 1 if nodes else 1):
        application = chance.choice(described)
        component = chance.choice([one.name for one in application.spec.components])
        accelerators = chance.choice([(), (AcceleratorHold("gpu", 1, "a", 8 * GIB),)])
        held = Reservation(chance.choice([0, 250, 500]), chance.choice([0, GIB // 4]), accelerators=accelerators)
        rows.append(
            placed(
                component,
                f"n{chance.randrange(nodes)}",
                ordinal,
                application.metadata.name,
                reserved=chance.choice([held, held, held, None]),
                wanted=chance.choice(["run", "run", "run", "drain", "stop"]),
                phase=chance.choice(["ready", "starting", "unknown"]),
                lost=chance.random() < 0.2,
            )
        )
    return rows


def _policies(chance: Random) -> list[dict[str, Any]]:
    names = _some(chance, ["balanced", "binpack", "cheapest", "greenest", "nearest", "spread", "static"], 3)
    uses: list[dict[str, Any]] = [{"use": name, "weight": chance.choice([0.5, 1.0, 2.0])} for name in names]
    if chance.random() < 0.3:
        uses.append({"use": "static", "options": {"nodes": ["n0", "n1", "n3"]}})
    return list({use["use"]: use for use in uses}.values())
