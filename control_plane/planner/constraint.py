"""The form of a hard constraint: which nodes pass it, over all nodes at once, and why one node does not.

The files in `filters/` hold one group each and build only what a component asks for. `decide.py` uses masks,
`explain.py` asks for failures; both come from the same object and agree for every node (a Hypothesis test holds it).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ...descriptions.kinds import Application, Model
from ...descriptions.kinds.application import Component
from ...policies.node_table import BoolArray, IntArray
from ...policies.relations import Relations
from ...policies.request import Request
from .explanation import Failure
from .layout import StaticMask
from .snapshot import Need
from .table import Table


@dataclass(eq=False)
class Question:
    """One need with all that its constraints look at."""

    table: Table
    need: Need
    application: Application
    component: Component
    relations: Relations
    model: Model | None
    request: Request
    left: int
    """Replicas still to be placed, the next one included."""
    static: StaticMask | None = None
    """Of the constraints that no placement changes; set before the others are asked."""

    @property
    def eligible(self) -> BoolArray:
        """Nodes that pass every constraint that no placement changes."""
        assert self.static is not None, "static constraints are evaluated first"
        return self.static.mask

    def siblings_of(self, component: str) -> IntArray:
        """Rows of the replicas of a component of the same application, one entry a replica."""
        replicas = self.table.replicas.of(self.application.metadata.name, component)
        return np.array([replica.row for replica in replicas], dtype=np.int64)


class Constraint(ABC):
    """One condition that a node must meet."""

    name: str
    """As `why` and decision records call it; `docs/placement.md` lists them."""

    @abstractmethod
    def mask(self, question: Question) -> BoolArray:
        """True where a node passes; shape `(nodes,)`."""

    @abstractmethod
    def failure(self, question: Question, row: int) -> Failure | None:
        """Why one node does not pass, with numbers and the smallest change; None where it passes."""

    @property
    def key(self) -> Hashable:
        """Of a static constraint: same key, same mask as long as the layout lives."""
        return None


class Constraints:
    """The constraints of one need, by what can change their answer."""

    __slots__ = ("moving", "narrowing", "static")

    def __init__(self) -> None:
        self.static: list[Constraint] = []
        """Nothing but the layout; each has a `key`."""
        self.narrowing: list[Constraint] = []
        """Earlier decisions; and a replica that is placed, on its own node alone."""
        self.moving: list[Constraint] = []
        """A replica that is placed may change the answer for other nodes."""

    @property
    def all(self) -> list[Constraint]:
        """In the order in which reasons are told."""
        return [*self.static, *self.narrowing, *self.moving]


def everywhere(question: Question, passes: bool) -> BoolArray:
    """The same answer for all nodes."""
    return np.full(len(question.table.nodes), passes, dtype=np.bool_)
