"""Small slices in a few words: nodes, components and replicas as tests need them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shoal.control_plane.placement import Placement, Reservation
from shoal.control_plane.planner.record import DecisionRecord, decode_record
from shoal.control_plane.planner.snapshot import Decision, Metrics, Need, NodeState, NoMetrics, PlanProposal, Snapshot
from shoal.descriptions.kinds import Application, Cluster, Datacenter, Model, Node, Policy, Slice
from shoal.descriptions.messages.reported import MechanismReport

GIB = 1024**3
MIB = 1024**2
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

BOTH = (MechanismReport("inference", ("serve",)), MechanismReport("process", ("run",)))
PROCESS: dict[str, Any] = {"command": ["work"]}


def node(name: str, *, labels: dict[str, str] | None = None, phase: Any = "ready", **spec: Any) -> NodeState:
    """A node of 4 cores and 8 GiB that runs anything; `spec` in Python names, `mechanisms` apart."""
    mechanisms = spec.pop("mechanisms", BOTH)
    uid = spec.pop("uid", f"u-{name}")
    hardware = {"cpu": 4.0, "memory": 8 * GIB, "disk": 100 * GIB, **spec.pop("hardware", {})}
    described = Node.model_validate(
        {"metadata": {"name": name, "labels": labels or {}}, "spec": {"hardware": hardware, **spec}}
    )
    return NodeState(described, uid, phase, mechanisms)


def part(name: str = "part", **fields: Any) -> dict[str, Any]:
    """A process component; `cpu` (cores) and `memory` (bytes) stand for resources."""
    resources = {key: fields.pop(key) for key in ("cpu", "memory", "disk") if key in fields}
    run = {} if {"inference", "container", "process"} & fields.keys() else {"process": PROCESS}
    return {"name": name, "resources": resources, **run, **fields}


def app(*parts: dict[str, Any], name: str = "app", **spec: Any) -> Application:
    """An application of these components."""
    return Application.model_validate({"metadata": {"name": name}, "spec": {"components": list(parts), **spec}})


def model(name: str = "digits", **spec: Any) -> Model:
    """An ONNX model."""
    source = {"url": "https://models.example/m.onnx", "sha256": "0" * 64}
    return Model.model_validate({"metadata": {"name": name}, "spec": {"format": "onnx", "source": source, **spec}})


def policy(name: str, use: str, **spec: Any) -> Policy:
    """An enabled policy."""
    return Policy.model_validate({"metadata": {"name": name}, "spec": {"use": use, **spec}})


def snapshot(
    nodes: Iterable[NodeState] = (),
    *applications: Application,
    placements: Sequence[Placement] = (),
    slice_: dict[str, Any] | None = None,
    models: Sequence[Model] = (),
    clusters: Sequence[Cluster] = (),
    datacenters: Sequence[Datacenter] = (),
    policies: Sequence[Policy] = (),
    metrics: Metrics | None = None,
    wall: datetime = NOON,
) -> Snapshot:
    """A slice; `slice_` is the Slice's spec."""
    return Snapshot(
        version=7,
        now_s=100.0,
        wall=wall,
        slice=Slice.model_validate({"metadata": {"name": "slice"}, "spec": slice_ or {}}),
        nodes=tuple(nodes),
        clusters=tuple(clusters),
        datacenters=tuple(datacenters),
        applications=applications,
        models=tuple(models),
        policies=tuple(policies),
        placements=tuple(placements),
        metrics=metrics or NoMetrics(),
    )


def placed(component: str, node_name: str, ordinal: int = 1, application: str = "app", **fields: Any) -> Placement:
    """A ready replica; `cpu` (cores) and `memory` (bytes) are what it holds."""
    held = Reservation(round(fields.pop("cpu", 0) * 1000), fields.pop("memory", 0))
    row = Placement(
        f"{application}.{component}.{ordinal}", application, component, ordinal, f"u-{node_name}", node_name, 1
    )
    given = {"phase": "ready", "reserved": held, **fields}
    return Placement(**{**{name: getattr(row, name) for name in row.__struct_fields__}, **given})


def need(component: str = "part", count: int = 1, application: str = "app", **fields: Any) -> Need:
    """Replicas that must be placed."""
    return Need(application, component, count, fields.pop("cause", "initial"), **fields)


def chosen(decision: Decision) -> list[str]:
    """Names of the chosen nodes, in order."""
    return [one.node_name for one in decision.assignments]


def record_of(decision: Decision) -> DecisionRecord:
    """The decision's record."""
    return decode_record(decision.record)


def committed(before: Snapshot, proposal: PlanProposal) -> Snapshot:
    """The snapshot after a proposal was committed and every new replica is ready; replaced ones are gone."""
    rows = {row.id: row for row in before.placements}
    ordinals = {(row.application, row.component): row.ordinal for row in sorted(rows.values(), key=lambda r: r.ordinal)}
    for decision in proposal.decisions:
        key = (decision.need.application, decision.need.component)
        for one in decision.assignments:
            rows.pop(one.replaces, None)
            ordinals[key] = ordinals.get(key, 0) + 1
            new = placed(key[1], one.node_name, ordinals[key], key[0], reserved=one.reserved, node_uid=one.node_uid)
            rows[new.id] = new
    return replace(before, version=before.version + 1, placements=tuple(rows.values()))
