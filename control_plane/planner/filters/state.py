"""Whether a node takes replicas at all: its phase, cordon and drain, and the nodes that a need names or avoids."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ....policies.node_table import BoolArray
from ..constraint import Constraint, Constraints, Question
from ..explanation import Failure

_NOT_READY = {
    "expected": ("described but never joined", "start its agent and join it"),
    "suspect": ("suspect: heartbeats are missing", "restore its connection"),
    "lost": ("lost: its lease has ended", "restore its connection"),
    "left": ("has left the slice", "join it again"),
}


@dataclass(frozen=True)
class Phase(Constraint):
    """Only nodes whose lease is alive take replicas."""

    name = "phase"

    @property
    def key(self) -> Hashable:
        return "phase"

    def mask(self, question: Question) -> BoolArray:
        return np.array([row.state.phase == "ready" for row in question.table.rows], dtype=np.bool_)

    def failure(self, question: Question, row: int) -> Failure | None:
        phase = question.table.rows[row].state.phase
        return None if phase == "ready" else Failure(self.name, *_NOT_READY[phase])


@dataclass(frozen=True)
class Cordon(Constraint):
    """Cordoned and drained nodes take no new replicas."""

    name = "cordon"

    @property
    def key(self) -> Hashable:
        return "cordon"

    def mask(self, question: Question) -> BoolArray:
        specs = (row.node.spec for row in question.table.rows)
        return np.array([not (spec.cordoned or spec.drained) for spec in specs], dtype=np.bool_)

    def failure(self, question: Question, row: int) -> Failure | None:
        spec = question.table.rows[row].node.spec
        if spec.drained:
            return Failure(self.name, "being drained", "uncordon it")
        return Failure(self.name, "cordoned", "uncordon it") if spec.cordoned else None


@dataclass(frozen=True)
class Named(Constraint):
    """Only the node that an adaptation named."""

    node: str
    name = "node"

    def mask(self, question: Question) -> BoolArray:
        mask = np.zeros(len(question.table.nodes), dtype=np.bool_)
        row = question.table.nodes.row_of.get(self.node)
        if row is not None:
            mask[row] = True
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        if question.table.nodes.names[row] == self.node:
            return None
        return Failure(self.name, f"the move is to {self.node}", "name this node, or none")


@dataclass(frozen=True)
class Avoided(Constraint):
    """Not the nodes that the need avoids, such as the one that a replica moves away from."""

    nodes: tuple[str, ...]
    name = "avoid"

    def mask(self, question: Question) -> BoolArray:
        rows = question.table.nodes.row_of
        mask = np.ones(len(question.table.nodes), dtype=np.bool_)
        mask[[rows[node] for node in self.nodes if node in rows]] = False
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        if question.table.nodes.names[row] not in self.nodes:
            return None
        return Failure(self.name, f"replicas are to leave it ({question.need.cause})")


_PHASE, _CORDON = Phase(), Cordon()


def state(question: Question, into: Constraints) -> None:
    """What always holds, and what this need names."""
    into.static += (_PHASE, _CORDON)
    need = question.need
    if need.node:
        into.narrowing.append(Named(need.node))
    if need.avoid:
        into.narrowing.append(Avoided(need.avoid))
