"""Room for one more replica: CPU, memory and disk that no reservation holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....descriptions.units import BYTES, CORES
from ....policies.node_table import BoolArray, IntArray
from ..constraint import Constraint, Constraints, Question
from ..explanation import Failure
from ..node_row import NodeRow
from ..table import Table


@dataclass(frozen=True)
class Capacity(Constraint):
    """Free capacity of one kind is at least what a replica asks for."""

    name: str
    needed: int

    def mask(self, question: Question) -> BoolArray:
        mask: BoolArray = np.greater_equal(self._free(question.table), self.needed)
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        free = int(self._free(question.table)[row])
        if free >= self.needed:
            return None
        capacity = self._capacity(question.table.rows[row])
        if capacity < 0:
            reason = f"needs {self._shown(self.needed)}, and how much the node has is not known"
            return Failure(self.name, reason, f"describe the node's {self.name}")
        reason = f"needs {self._shown(self.needed)}, {self._shown(free)} of {self._shown(capacity)} are free"
        return Failure(self.name, reason, f"free {self._shown(self.needed - free)} of {self.name}")

    def _free(self, table: Table) -> IntArray:
        ledger = table.ledger
        columns: dict[str, IntArray] = {
            "cpu": ledger.cpu_millis,
            "memory": ledger.memory_bytes,
            "disk": ledger.disk_bytes,
        }
        return columns[self.name]

    def _capacity(self, row: NodeRow) -> int:
        return {"cpu": row.cpu_millis, "memory": row.memory_bytes, "disk": row.disk_bytes}[self.name]

    def _shown(self, amount: int) -> str:
        sign = "-" if amount < 0 else ""
        return sign + (CORES.format(abs(amount) / 1000) if self.name == "cpu" else BYTES.format(abs(amount)))


def capacity(question: Question, into: Constraints) -> None:
    """One for each kind that the component asks for."""
    request = question.request
    if request.cpu_millis:
        into.narrowing.append(Capacity("cpu", request.cpu_millis))
    if request.memory_bytes:
        into.narrowing.append(Capacity("memory", request.memory_bytes))
    if request.disk_bytes:
        into.narrowing.append(Capacity("disk", request.disk_bytes))
