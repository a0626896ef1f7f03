"""The nodes of a snapshot as columns: what stays the same until a node, a cluster, a datacenter or a tariff changes.

`table.py` keeps it from snapshot to snapshot; masks of constraints that no placement changes are kept with it.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...descriptions.kinds import Node
from ...descriptions.messages.reported import MechanismReport
from ...policies.network import Network
from ...policies.node_table import STATIC_COLUMNS, BoolArray, FloatArray, IntArray, NodeTable, table_of
from ...policies.view import Device
from .ledger import Ledger
from .node_row import Groups, NodeRow, Tariff, groups_of, row_of
from .snapshot import NodeState, Snapshot

LAYERS = ("cloud", "edge-infrastructure", "edge", "far-edge")


@dataclass(frozen=True)
class StaticMask:
    """Which nodes pass constraints that no placement changes, with how many nodes fail each of them."""

    mask: BoolArray
    failing: tuple[tuple[str, int], ...]


@dataclass(eq=False)
class Layout:
    """What holds until a node, a cluster, a datacenter or a tariff changes."""

    states: tuple[NodeState, ...]
    """Of the newest snapshot that it holds for."""
    minute: int
    """Of the UTC day, of that snapshot."""
    rows: tuple[NodeRow, ...]
    groups: Groups
    tariffs: tuple[Tariff | None, ...]
    nodes: NodeTable
    network: Network
    ledger: Ledger
    masks: dict[Hashable, StaticMask]

    @cached_property
    def reports(self) -> dict[str, tuple[MechanismReport, ...]]:
        """Mechanisms by node name."""
        return {row.facts.name: row.mechanisms for row in self.rows}

    @cached_property
    def digest(self) -> bytes:
        """Of everything in it, 16 bytes."""
        digest = hashlib.blake2b(digest_size=16)
        for row in self.rows:
            digest.update(row.digest)
        for name in STATIC_COLUMNS:
            digest.update(getattr(self.nodes, name).tobytes())
        return digest.digest()


def layout_of(snapshot: Snapshot, previous: Layout | None) -> Layout:
    """Read the nodes of a snapshot; `previous` is given back itself where nothing of it changed."""
    groups = _groups(snapshot, previous)
    minute = snapshot.wall.hour * 60 + snapshot.wall.minute
    kept = previous if previous and groups is previous.groups else None
    if kept and minute == kept.minute and _same(snapshot.nodes, kept.states):
        return kept
    known = {row.facts.name: row for row in kept.rows} if kept else {}
    states = sorted(snapshot.nodes, key=lambda state: state.node.metadata.name)
    rows = tuple([_row(state, known.get(state.node.metadata.name), groups) for state in states])
    tariffs = tuple([row.tariff_at(minute) if row.tariffs else None for row in rows])
    if kept and tariffs == kept.tariffs and _same(rows, kept.rows):
        kept.states, kept.minute = snapshot.nodes, minute
        return kept
    kinds = _kinds(rows)
    ledger = Ledger(rows, kinds)
    nodes = _node_table(rows, tariffs, ledger)
    network = Network(nodes, [row.links for row in rows])
    return Layout(snapshot.nodes, minute, rows, groups, tariffs, nodes, network, ledger, {})


def _kinds(rows: Sequence[NodeRow]) -> tuple[Device, ...]:
    """Every kind of accelerator in the slice, sorted."""
    kinds = {(one.type, one.model, one.memory_bytes) for row in rows for one in row.facts.accelerators}
    return tuple(Device(kind, model, 0, memory_bytes) for kind, model, memory_bytes in sorted(kinds))


def _groups(snapshot: Snapshot, previous: Layout | None) -> Groups:
    groups = previous.groups if previous else None
    if groups and _same(snapshot.clusters, groups.clusters) and _same(snapshot.datacenters, groups.sites):
        return groups
    return groups_of(snapshot.clusters, snapshot.datacenters)


def _row(state: NodeState, known: NodeRow | None, groups: Groups) -> NodeRow:
    if known is not None and (state is known.state or _unchanged(state, known.state)):
        return known
    return row_of(state, groups)


def _unchanged(state: NodeState, before: NodeState) -> bool:
    """Whether all that placement reads of a node is the same, such as after a heartbeat was written to its status."""
    now, then = (state.uid, state.phase, state.mechanisms), (before.uid, before.phase, before.mechanisms)
    if now != then:
        return False
    node, known = state.node, before.node
    # A spec is compared by identity: comparing two of them costs more than reading one again.
    return node is known or (
        node.spec is known.spec and node.metadata.labels == known.metadata.labels and _found(node) == _found(known)
    )


def _found(node: Node) -> tuple[object, ...] | None:
    """What the inventory found."""
    status = node.status
    return None if status is None else (status.hardware, status.accelerators, status.mechanisms)


def _same(new: Sequence[object], old: Sequence[object]) -> bool:
    """Whether both hold the same objects; what is immutable and the same object is unchanged."""
    return new is old or (len(new) == len(old) and all(map(operator.is_, new, old)))


def _node_table(rows: Sequence[NodeRow], tariffs: Sequence[Tariff | None], ledger: Ledger) -> NodeTable:
    clusters = tuple(sorted({row.facts.cluster for row in rows} - {""}))
    datacenters = tuple(sorted({row.facts.datacenter for row in rows} - {""}))
    powers = [row.node.spec.power for row in rows]
    columns: dict[str, NDArray[Any]] = {
        "cpu_millis": _ints(max(0, row.cpu_millis) for row in rows),
        "memory_bytes": _ints(max(0, row.memory_bytes) for row in rows),
        "disk_bytes": _ints(max(0, row.disk_bytes) for row in rows),
        "layer_code": _codes((row.facts.layer for row in rows), LAYERS),
        "cluster_code": _codes((row.facts.cluster for row in rows), clusters),
        "datacenter_code": _codes((row.facts.datacenter for row in rows), datacenters),
        "latitude": _floats(row.latitude for row in rows),
        "longitude": _floats(row.longitude for row in rows),
        "price_per_h": _floats(row.node.spec.price for row in rows),
        "power_w_idle": _floats(power.idle for power in powers),
        "power_w_max": _floats(power.max for power in powers),
        "energy_price_per_kwh": _floats(tariff.price_per_kwh if tariff else math.nan for tariff in tariffs),
        "co2_g_per_kwh": _floats(tariff.co2_g_per_kwh if tariff else math.nan for tariff in tariffs),
        "cpu_millis_free": ledger.cpu_millis,
        "memory_bytes_free": ledger.memory_bytes,
        "disk_bytes_free": ledger.disk_bytes,
        "replicas": ledger.replicas,
        "siblings": ledger.siblings,
    }
    return table_of(
        [row.facts for row in rows],
        columns,
        ledger.accelerators.T,
        domains=(LAYERS, clusters, datacenters),
        accelerator_kinds=ledger.kinds,
    )


def _codes(names: Iterable[str], known: tuple[str, ...]) -> IntArray:
    code_of = {name: code for code, name in enumerate(known)}
    return _ints(code_of.get(name, -1) for name in names)


def _ints(values: Iterable[int]) -> IntArray:
    return np.array(list(values), dtype=np.int64)


def _floats(values: Iterable[float]) -> FloatArray:
    return np.array(list(values), dtype=np.float64)
