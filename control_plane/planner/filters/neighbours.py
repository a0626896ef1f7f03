"""Standing together with other components, or apart from them: affinity, anti-affinity and colocation.

As Kubernetes does, anti-affinity holds both ways: a replica does not go where a component that wants to be apart from
it already stands.
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....descriptions.kinds.application import Topology
from ....policies.node_table import BoolArray
from ..constraint import Constraint, Constraints, Question, everywhere
from ..domains import codes_of, domain_name
from ..explanation import Failure


@dataclass(frozen=True)
class Together(Constraint):
    """A replica of the other component stands in the node's domain."""

    name: str
    other: str
    topology: Topology
    is_mutual: bool
    """The other wants to stand with this one too: whichever comes first is free to choose."""

    def mask(self, question: Question) -> BoolArray:
        rows = question.siblings_of(self.other)
        if not rows.size:
            return everywhere(question, self.is_mutual)
        codes = codes_of(question.table.nodes, self.topology)
        return np.isin(codes, codes[rows]) & (codes >= 0)

    def failure(self, question: Question, row: int) -> Failure | None:
        if self.mask(question)[row]:
            return None
        rows = question.siblings_of(self.other)
        if not rows.size:
            return Failure(self.name, f"no replica of {self.other} is placed yet", f"place {self.other} first")
        nodes, codes = question.table.nodes, codes_of(question.table.nodes, self.topology)
        places = sorted({domain_name(nodes, self.topology, int(codes[at])) for at in rows if codes[at] >= 0})
        reason = f"must share its {self.topology.value} with {self.other}, which is on {_listed(places)}"
        return Failure(self.name, reason, f"place a replica of {self.other} here")


@dataclass(frozen=True)
class Apart(Constraint):
    """No replica of the other component stands in the node's domain."""

    name: str
    other: str
    topology: Topology
    is_own: bool
    wished_by: str
    """The component whose description says so."""

    def mask(self, question: Question) -> BoolArray:
        rows = question.siblings_of(self.other)
        if not rows.size:
            return everywhere(question, True)
        codes = codes_of(question.table.nodes, self.topology)
        taken = codes[rows]
        return ~np.isin(codes, taken[taken >= 0])

    def failure(self, question: Question, row: int) -> Failure | None:
        if self.mask(question)[row]:
            return None
        nodes, codes = question.table.nodes, codes_of(question.table.nodes, self.topology)
        count = int((codes[question.siblings_of(self.other)] == codes[row]).sum())
        where = domain_name(nodes, self.topology, int(codes[row]))
        kind = "another replica" if self.is_own else self.other
        reason = f"{self.wished_by} must not share its {self.topology.value} with {kind}; {count} on {where}"
        return Failure(self.name, reason, f"move {self.other} away from {where}, or make antiAffinity a preference")


def neighbours(question: Question, into: Constraints) -> None:
    """Required affinity, anti-affinity of both sides, and colocation."""
    own, placement = question.component.name, question.component.placement
    for other, one in question.relations.kept_apart_by.get(own, ()):
        if one.required:
            into.narrowing.append(Apart(f"antiAffinity {other}", other, one.topology, False, other))
    if not (placement.affinity or placement.colocate or placement.anti_affinity):
        return
    together = [("affinity", one.component, one.topology) for one in placement.affinity if one.required]
    together += [("colocate", other, Topology.NODE) for other in placement.colocate]
    for kind, other, topology in together:
        is_mutual = other in question.relations.wanted_by.get(own, ())
        into.narrowing.append(Together(f"{kind} {other}", other, topology, is_mutual))
    for one in placement.anti_affinity:
        if one.required:
            apart = Apart(f"antiAffinity {one.component}", one.component, one.topology, one.component == own, own)
            (into.moving if apart.is_own else into.narrowing).append(apart)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
