"""Required spread: the numbers of replicas in the domains of a topology stay within `maxSkew` of each other.

Only domains with a node that passes the constraints which no placement changes take part, as with Kubernetes'
topology spread (`whenUnsatisfiable: DoNotSchedule`):
https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....descriptions.kinds.application import Topology
from ....policies.node_table import BoolArray, IntArray
from ..constraint import Constraint, Constraints, Question, everywhere
from ..domains import codes_of, domain_count, domain_name
from ..explanation import Failure


@dataclass(frozen=True)
class Even(Constraint):
    """One more replica in the node's domain keeps it within `max_skew` of the emptiest."""

    name: str
    topology: Topology
    max_skew: int

    def mask(self, question: Question) -> BoolArray:
        codes, counts, least = self._counted(question)
        if least is None:
            return everywhere(question, False)
        mask: BoolArray = (codes >= 0) & (counts[codes] + 1 - counts[least] <= self.max_skew)
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        codes, counts, least = self._counted(question)
        if codes[row] < 0:
            return Failure(self.name, f"is in no {self.topology.value}", f"describe its {self.topology.value}")
        if least is None:
            return Failure(self.name, f"no {self.topology.value} has a node that passes the other constraints")
        if counts[codes[row]] + 1 - counts[least] <= self.max_skew:
            return None
        nodes = question.table.nodes
        here, there = (domain_name(nodes, self.topology, int(code)) for code in (codes[row], least))
        reason = f"{counts[codes[row]]} replicas on {here}, {counts[least]} on {there}; at most {self.max_skew} apart"
        return Failure(self.name, reason, f"place a replica on {there} first, or raise maxSkew")

    def _counted(self, question: Question) -> tuple[IntArray, IntArray, int | None]:
        """Domain of each node, replicas in each domain, and the emptiest domain that takes part."""
        nodes = question.table.nodes
        codes = codes_of(nodes, self.topology)
        standing = codes[question.siblings_of(question.component.name)]
        counts = np.bincount(standing[standing >= 0], minlength=domain_count(nodes, self.topology)).astype(np.int64)
        taking_part = np.unique(codes[question.eligible & (codes >= 0)])
        if not taking_part.size:
            return codes, counts, None
        return codes, counts, int(taking_part[np.argmin(counts[taking_part])])


def spread(question: Question, into: Constraints) -> None:
    """Spread that the component requires."""
    for one in question.component.placement.spread:
        if one.required:
            into.moving.append(Even(f"spread {one.topology.value}", one.topology, one.max_skew))
