"""Who holds what of each node: free capacity by reservation, exact because everything is whole numbers.

`table.py` fills it from committed placements; a decision takes from a working copy, so that every later decision of
the same proposal sees it, and `reset` forgets them all. What a replica holds is free again only when its row is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...policies.node_table import IntArray
from ...policies.request import Request
from ...policies.view import Device
from ..placement import AcceleratorHold, Reservation
from .devices import Want, assign
from .node_row import NodeRow

CPU, MEMORY, DISK, REPLICAS, SIBLINGS, DEVICES = range(6)
"""Lines of the matrix; from `DEVICES` on one a kind of accelerator."""


class Ledger:
    """Free capacity and counts by node row; `free` and its lines are the working copy."""

    def __init__(self, rows: Sequence[NodeRow], kinds: tuple[Device, ...]) -> None:
        self.kinds = kinds
        self._line_of = {(kind.type, kind.model, kind.memory_bytes): DEVICES + at for at, kind in enumerate(kinds)}
        self._base = np.zeros((DEVICES + len(kinds), len(rows)), dtype=np.int64)
        for at, row in enumerate(rows):
            self._base[: DISK + 1, at] = (max(0, row.cpu_millis), max(0, row.memory_bytes), max(0, row.disk_bytes))
            for device in row.facts.accelerators:
                self._base[self._line_of[device.type, device.model, device.memory_bytes], at] += device.count
        self.free: IntArray = self._base.copy()
        self.cpu_millis, self.memory_bytes, self.disk_bytes = self.free[CPU], self.free[MEMORY], self.free[DISK]
        self.replicas, self.siblings, self.accelerators = self.free[REPLICAS], self.free[SIBLINGS], self.free[DEVICES:]

    def commit(self, row: int, held: Reservation, count: int = 1) -> None:
        """Count a committed placement's reservation, or with `count=-1` give it back; seen after `reset`."""
        base = self._base
        base[CPU, row] -= count * held.cpu_millis
        base[MEMORY, row] -= count * held.memory_bytes
        base[DISK, row] -= count * held.disk_bytes
        base[REPLICAS, row] += count
        for hold in held.accelerators:
            line = self._line_of.get((hold.type, hold.model, hold.memory_bytes))
            if line is not None:
                base[line, row] -= count * hold.count

    def reset(self) -> None:
        """Forget everything taken since."""
        np.copyto(self.free, self._base)

    def fits(self, row: int, request: Request) -> bool:
        """Whether one more replica has room, accelerators included."""
        free = self.free
        return (
            (not request.cpu_millis or int(free[CPU, row]) >= request.cpu_millis)
            and (not request.memory_bytes or int(free[MEMORY, row]) >= request.memory_bytes)
            and (not request.disk_bytes or int(free[DISK, row]) >= request.disk_bytes)
            and (not request.accelerators or self._assigned(row, request) is not None)
        )

    def take(self, row: int, request: Request) -> Reservation:
        """Reserve for one replica on a node that `fits` it."""
        holds = self._holds(row, request) if request.accelerators else ()
        free = self.free
        free[CPU, row] -= request.cpu_millis
        free[MEMORY, row] -= request.memory_bytes
        free[DISK, row] -= request.disk_bytes
        free[REPLICAS, row] += 1
        return Reservation(request.cpu_millis, request.memory_bytes, request.disk_bytes, holds)

    def take_held(self, row: int, held: Reservation) -> None:
        """Reserve what an earlier decision of the same proposal took; for replay."""
        free = self.free
        free[CPU, row] -= held.cpu_millis
        free[MEMORY, row] -= held.memory_bytes
        free[DISK, row] -= held.disk_bytes
        free[REPLICAS, row] += 1
        for hold in held.accelerators:
            free[self._line_of[hold.type, hold.model, hold.memory_bytes], row] -= hold.count

    def give_back(self, row: int, held: Reservation) -> None:
        """Free a reservation in the working copy; for asking how it would be without it."""
        free = self.free
        free[CPU, row] += held.cpu_millis
        free[MEMORY, row] += held.memory_bytes
        free[DISK, row] += held.disk_bytes
        free[REPLICAS, row] -= 1
        for hold in held.accelerators:
            line = self._line_of.get((hold.type, hold.model, hold.memory_bytes))
            if line is not None:
                free[line, row] += hold.count

    def wants(self, request: Request) -> tuple[Want, ...]:
        """The request's accelerators by lines of `accelerators`."""
        return tuple(
            Want(
                tuple(
                    at
                    for at, kind in enumerate(self.kinds)
                    if kind.type == one.type and one.model in (None, kind.model) and kind.memory_bytes >= one.memory
                ),
                one.count,
            )
            for one in request.accelerators
        )

    def _assigned(self, row: int, request: Request) -> dict[int, int] | None:
        return assign(self.accelerators[:, row].tolist(), self.wants(request))

    def _holds(self, row: int, request: Request) -> tuple[AcceleratorHold, ...]:
        taken = self._assigned(row, request)
        assert taken is not None, "take() on a node without the accelerators"
        for line, count in taken.items():
            self.accelerators[line, row] -= count
        return tuple(
            AcceleratorHold(kind.type, count, kind.model, kind.memory_bytes)
            for kind, count in ((self.kinds[line], count) for line, count in sorted(taken.items()))
        )
