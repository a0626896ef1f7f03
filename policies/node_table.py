"""The nodes of a slice as columns: one row a node, sorted by name, one numpy array a fact.

`control_plane/planner/table.py` builds it from a snapshot and keeps the moving columns up to date while it decides;
the policy process builds the same from what it is sent. Policies only read: the arrays refuse writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .node_view import Device, NodeFacts, NodeView

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

STATIC_COLUMNS: dict[str, str] = {
    "cpu_millis": "i8",
    "memory_bytes": "i8",
    "disk_bytes": "i8",
    "layer_code": "i8",
    "cluster_code": "i8",
    "datacenter_code": "i8",
    "latitude": "f8",
    "longitude": "f8",
    "price_per_h": "f8",
    "power_w_idle": "f8",
    "power_w_max": "f8",
    "energy_price_per_kwh": "f8",
    "co2_g_per_kwh": "f8",
}
"""Name → numpy type of what changes with descriptions, inventory and the hour of the day."""

MOVING_COLUMNS: dict[str, str] = {
    "cpu_millis_free": "i8",
    "memory_bytes_free": "i8",
    "disk_bytes_free": "i8",
    "replicas": "i8",
    "siblings": "i8",
}
"""Name → numpy type of what changes with each replica that is placed."""

COLUMNS = STATIC_COLUMNS | MOVING_COLUMNS


@dataclass(frozen=True)
class LabelColumn:
    """One label over all nodes: `values[codes[row]]`, code -1 where a node lacks it."""

    codes: IntArray
    values: tuple[str, ...]


@dataclass
class Clock:
    """Counts writes to the moving columns; a table and its one-row tables share one."""

    moves: int = 0


@dataclass(frozen=True, eq=False)
class NodeTable:
    """Columns over nodes; `table[row]` is one node, iteration goes by name.

    Capacities are what may be placed on: what a description reserves for the system is off already. `_free` is
    capacity less every reservation, negative where capacity shrank under what runs. Codes index `layers`, `clusters`
    and `datacenters`; -1 is none. Unknown coordinates are NaN.
    """

    facts: tuple[NodeFacts, ...] = field(repr=False)
    layers: tuple[str, ...]
    clusters: tuple[str, ...]
    datacenters: tuple[str, ...]
    accelerator_kinds: tuple[Device, ...]
    """Every kind of accelerator in the slice; `count` is 0."""

    cpu_millis: IntArray = field(repr=False)
    """Thousandths of a core."""
    memory_bytes: IntArray = field(repr=False)
    disk_bytes: IntArray = field(repr=False)
    layer_code: IntArray = field(repr=False)
    cluster_code: IntArray = field(repr=False)
    datacenter_code: IntArray = field(repr=False)
    latitude: FloatArray = field(repr=False)
    longitude: FloatArray = field(repr=False)
    price_per_h: FloatArray = field(repr=False)
    """Of the whole node, energy not included, in the slice's currency."""
    power_w_idle: FloatArray = field(repr=False)
    power_w_max: FloatArray = field(repr=False)
    """At full load."""
    energy_price_per_kwh: FloatArray = field(repr=False)
    """By the power source whose window holds now; NaN where none is described."""
    co2_g_per_kwh: FloatArray = field(repr=False)
    """By the power source whose window holds now; NaN where none is described."""
    cpu_millis_free: IntArray = field(repr=False)
    memory_bytes_free: IntArray = field(repr=False)
    disk_bytes_free: IntArray = field(repr=False)
    replicas: IntArray = field(repr=False)
    """Of any application; what is about to stop counts until it has stopped."""
    siblings: IntArray = field(repr=False)
    """Replicas of the component that is being decided, without those that are being replaced."""
    accelerators_free: IntArray = field(repr=False)
    """Shape `(nodes, accelerator_kinds)`."""
    first_row: int = 0
    """Where the rows start in the whole table; not 0 only in what `only` gives."""
    clock: Clock = field(repr=False, default_factory=Clock)

    _floats: dict[str, list[float]] = field(init=False, repr=False, default_factory=dict)
    _ints: dict[str, list[int]] = field(init=False, repr=False, default_factory=dict)
    _moving: dict[str, tuple[int, list[int]]] = field(init=False, repr=False, default_factory=dict)
    _rows: dict[int, NodeTable] = field(init=False, repr=False, default_factory=dict)
    _labels: dict[str, LabelColumn] = field(init=False, repr=False, default_factory=dict)

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, row: int) -> NodeView:
        return self.views[row]

    def __iter__(self) -> Iterator[NodeView]:
        return iter(self.views)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Node names, sorted."""
        return tuple(facts.name for facts in self.facts)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row by node name."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def views(self) -> tuple[NodeView, ...]:
        """One row object a node, made once."""
        return tuple(NodeView(self, row, facts) for row, facts in enumerate(self.facts))

    @cached_property
    def per_cpu_milli(self) -> FloatArray:
        """1 / `cpu_millis`, to turn millicores into a share of the node; 0 where it has none."""
        return _inverse(self.cpu_millis)

    @cached_property
    def per_memory_byte(self) -> FloatArray:
        """1 / `memory_bytes`, to turn bytes into a share of the node; 0 where it has none."""
        return _inverse(self.memory_bytes)

    def label(self, key: str) -> LabelColumn:
        """One label as a column."""
        column = self._labels.get(key)
        if column is None:
            column = self._labels[key] = _label_column(self.facts, key)
        return column

    def accelerators(self, kind: str, model: str = "") -> IntArray:
        """Free accelerators of a type (`gpu`), and model where one is given, on each node."""
        wanted = [at for at, one in enumerate(self.accelerator_kinds) if one.type == kind and model in ("", one.model)]
        free: IntArray = self.accelerators_free[:, wanted].sum(axis=1)
        return free

    def only(self, row: int) -> NodeTable:
        """A table of one row over the same memory."""
        table = self._rows.get(row)
        if table is None:
            table = self._rows[row] = self._one_row(row)
        return table

    def floats(self, column: str) -> list[float]:
        """One of `STATIC_COLUMNS` as Python numbers, listed once; what node views read."""
        values = self._floats.get(column)
        if values is None:
            values = self._floats[column] = getattr(self, column).tolist()
        return values

    def ints(self, column: str) -> list[int]:
        """As `floats`, for whole numbers."""
        values = self._ints.get(column)
        if values is None:
            values = self._ints[column] = getattr(self, column).tolist()
        return values

    def moving(self, column: str) -> list[int]:
        """As `ints`, for one of `MOVING_COLUMNS`: kept until the next `moved`."""
        kept = self._moving.get(column)
        if kept is None or kept[0] != self.clock.moves:
            kept = self._moving[column] = (self.clock.moves, getattr(self, column).tolist())
        return kept[1]

    def moved(self) -> None:
        """Say that a moving column was written; node views read it anew."""
        self.clock.moves += 1

    def _one_row(self, row: int) -> NodeTable:
        columns = {name: getattr(self, name)[row : row + 1] for name in COLUMNS}
        return table_of(
            self.facts[row : row + 1],
            columns,
            self.accelerators_free[row : row + 1],
            domains=(self.layers, self.clusters, self.datacenters),
            accelerator_kinds=self.accelerator_kinds,
            first_row=row,
            clock=self.clock,
        )


def table_of(
    facts: Sequence[NodeFacts],
    columns: Mapping[str, NDArray[Any]],
    accelerators_free: IntArray,
    *,
    domains: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    accelerator_kinds: tuple[Device, ...],
    first_row: int = 0,
    clock: Clock | None = None,
) -> NodeTable:
    """Put read-only views of `columns` (all of `COLUMNS`) into a table; `domains` are layers, clusters, datacenters."""
    views: dict[str, Any] = {name: read_only(columns[name]) for name in COLUMNS}
    return NodeTable(
        tuple(facts),
        *domains,
        accelerator_kinds,
        accelerators_free=read_only(accelerators_free),
        first_row=first_row,
        clock=clock or Clock(),
        **views,
    )


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that refuses writes."""
    view = array.view()
    view.flags.writeable = False
    return view


def scores_of(values: Sequence[float]) -> FloatArray:
    """Scores one by one, as a column."""
    return np.array(values, dtype=np.float64)


def _inverse(capacity: IntArray) -> FloatArray:
    return np.divide(1.0, capacity, out=np.zeros(len(capacity)), where=capacity > 0)


def _label_column(facts: Sequence[NodeFacts], key: str) -> LabelColumn:
    values: dict[str, int] = {}
    codes = [values.setdefault(fact.labels[key], len(values)) if key in fact.labels else -1 for fact in facts]
    return LabelColumn(np.array(codes, dtype=np.int64), tuple(values))
