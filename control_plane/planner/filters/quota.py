"""The slice's quotas over what runs in it: CPU, memory and number of replicas.

Counted are replicas that are wanted: not lost ones, and not those that the new ones replace, so that a full quota
never stops an update or a failover. Quotas on applications and nodes are held when those are applied and joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ....descriptions.units import BYTES, CORES
from ....policies.node_table import BoolArray
from ....policies.request import millis_of
from ..constraint import Constraint, Constraints, Question, everywhere
from ..explanation import Failure
from ..summary import replicas


@dataclass(frozen=True)
class Quota(Constraint):
    """One more replica stays within one quota; the same answer for all nodes."""

    name: str
    of: Literal["cpu", "memory", "replicas"]
    limit: int

    def mask(self, question: Question) -> BoolArray:
        return everywhere(question, self._used(question) + self._needed(question) <= self.limit)

    def failure(self, question: Question, row: int) -> Failure | None:
        used, needed = self._used(question), self._needed(question)
        if used + needed <= self.limit:
            return None
        reason = f"the slice's quota of {self._shown(self.limit)} is used up to {self._shown(used)}"
        change = f"raise the slice's {self.of} quota to {self._shown(used + needed)}"
        return Failure(self.name, f"{reason}, needs {self._shown(needed)}", change)

    def _used(self, question: Question) -> int:
        totals = question.table.totals
        return {"cpu": totals.cpu_millis, "memory": totals.memory_bytes, "replicas": totals.replicas}[self.of]

    def _needed(self, question: Question) -> int:
        request = question.request
        return {"cpu": request.cpu_millis, "memory": request.memory_bytes, "replicas": 1}[self.of]

    def _shown(self, amount: int) -> str:
        if self.of == "replicas":
            return replicas(amount)
        return CORES.format(amount / 1000) if self.of == "cpu" else BYTES.format(amount)


def quota(question: Question, into: Constraints) -> None:
    """Quotas that the slice sets and that this component uses."""
    quotas = question.table.snapshot.slice.spec.quotas
    if quotas.cpu is not None and question.request.cpu_millis:
        into.moving.append(Quota("quota cpu", "cpu", millis_of(quotas.cpu)))
    if quotas.memory is not None and question.request.memory_bytes:
        into.moving.append(Quota("quota memory", "memory", quotas.memory))
    if quotas.replicas is not None:
        into.moving.append(Quota("quota replicas", "replicas", quotas.replicas))
