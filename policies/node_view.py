"""One node as a policy sees it: a cheap row object over the columns of `node_table.py`, giving plain Python numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node_table import NodeTable


@dataclass(frozen=True)
class Device:
    """Accelerators or sensors of one model on a node."""

    type: str
    model: str = ""
    count: int = 1
    memory_bytes: int = 0
    """Of each."""


@dataclass(frozen=True)
class NodeFacts:
    """What is text about one node."""

    name: str
    layer: str
    cluster: str = ""
    datacenter: str = ""
    architecture: str = ""
    mobile: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    accelerators: tuple[Device, ...] = ()
    sensors: tuple[Device, ...] = ()


class NodeView:
    """One node; numbers are those of the moment, so a view never outlives the hook that got it.

    `name` is the node's, `row` its place in `View.nodes`, `facts` what is text about it.
    """

    __slots__ = ("_row", "_table", "facts", "name", "row")

    def __init__(self, table: NodeTable, row: int, facts: NodeFacts) -> None:
        self._table = table
        self._row = row
        self.row = table.first_row + row
        self.facts = facts
        self.name = facts.name

    def __repr__(self) -> str:
        return f"NodeView({self.name!r})"

    @property
    def layer(self) -> str:
        """`cloud`, `edge-infrastructure`, `edge` or `far-edge`."""
        return self.facts.layer

    @property
    def cluster(self) -> str:
        """Name, or empty."""
        return self.facts.cluster

    @property
    def datacenter(self) -> str:
        """Name, or empty; that of the cluster where the node names none."""
        return self.facts.datacenter

    @property
    def architecture(self) -> str:
        """As `uname -m` says, or empty."""
        return self.facts.architecture

    @property
    def mobile(self) -> bool:
        """Whether the node moves about."""
        return self.facts.mobile

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the node's metadata."""
        return self.facts.labels

    @property
    def sensors(self) -> tuple[Device, ...]:
        """Shared by all replicas on the node."""
        return self.facts.sensors

    @property
    def accelerators(self) -> tuple[Device, ...]:
        """All that the node has, free or not."""
        return self.facts.accelerators

    @property
    def cpu(self) -> float:
        """Cores that may be placed on."""
        return self._table.ints("cpu_millis")[self._row] / 1000

    @property
    def cpu_free(self) -> float:
        """Cores not reserved."""
        return self._table.moving("cpu_millis_free")[self._row] / 1000

    @property
    def memory_bytes(self) -> int:
        """Bytes that may be placed on."""
        return self._table.ints("memory_bytes")[self._row]

    @property
    def memory_bytes_free(self) -> int:
        """Bytes not reserved."""
        return self._table.moving("memory_bytes_free")[self._row]

    @property
    def disk_bytes(self) -> int:
        """Bytes that may be placed on."""
        return self._table.ints("disk_bytes")[self._row]

    @property
    def disk_bytes_free(self) -> int:
        """Bytes not reserved."""
        return self._table.moving("disk_bytes_free")[self._row]

    @property
    def replicas(self) -> int:
        """Replicas of any application that are here."""
        return self._table.moving("replicas")[self._row]

    @property
    def siblings(self) -> int:
        """Replicas here of the component that is being decided."""
        return self._table.moving("siblings")[self._row]

    @property
    def price_per_h(self) -> float:
        """Money for an hour of the whole node, energy not included."""
        return self._table.floats("price_per_h")[self._row]

    @property
    def power_w_idle(self) -> float:
        """Watts drawn when idle."""
        return self._table.floats("power_w_idle")[self._row]

    @property
    def power_w_max(self) -> float:
        """Watts drawn at full load."""
        return self._table.floats("power_w_max")[self._row]

    @property
    def energy_price_per_kwh(self) -> float | None:
        """Money for a kilowatt-hour now; None where no power source is described."""
        return _known(self._table.floats("energy_price_per_kwh")[self._row])

    @property
    def co2_g_per_kwh(self) -> float | None:
        """Grams of CO₂ for a kilowatt-hour now; None where no power source is described."""
        return _known(self._table.floats("co2_g_per_kwh")[self._row])

    @property
    def location(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees, or None where the description gives none."""
        latitude, longitude = self._table.floats("latitude")[self._row], self._table.floats("longitude")[self._row]
        return (latitude, longitude) if latitude == latitude and longitude == longitude else None

    def accelerators_free(self, kind: str, model: str = "") -> int:
        """Accelerators of a type (`gpu`), and model where one is given, that no replica holds."""
        return int(self._table.accelerators(kind, model)[self._row])


def _known(value: float) -> float | None:
    return value if value == value else None
