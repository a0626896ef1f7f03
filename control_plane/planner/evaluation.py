"""Which nodes can take the next replica of a need, and how many fail each constraint.

Masks of constraints that no placement changes are kept with the layout, one for each combination that components ask
for; capacity is looked at again only on the node that was just chosen; constraints that depend on the component's own
replicas are evaluated for each replica.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...policies.node_table import BoolArray
from .constraint import Constraint, Question
from .explanation import Failure
from .filters import constraints_of
from .layout import StaticMask

MASKS_KEPT_MAX = 4096


class Evaluation:
    """The constraints of one need over all nodes; `open` follows the replicas as they are placed."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.constraints = constraints_of(question)
        self._moving = self.constraints.moving
        self._refusals: list[tuple[str, BoolArray]] = []
        self._refused: BoolArray | None = None
        question.static = static = _static(question, self.constraints.static)
        self._failing = list(static.failing)
        self.open: BoolArray = static.mask.copy()
        """Nodes that pass everything but the constraints that move, and policies."""
        for one in self.constraints.narrowing:
            mask = one.mask(question)
            if failing := _failing(mask):
                self._failing.append((one.name, failing))
                self.open &= mask

    def allowed(self) -> BoolArray:
        """Nodes that can take the next replica."""
        if not self._moving and self._refused is None:
            return self.open
        allowed = self.open.copy()
        for one in self._moving:
            allowed &= one.mask(self.question)
        if self._refused is not None:
            allowed &= ~self._refused
        return allowed

    def placed(self, row: int) -> bool:
        """Look again at the node that has just taken a replica; whether the nodes that are allowed may have changed."""
        question = self.question
        question.left -= 1
        if self.open[row] and not question.table.ledger.fits(row, question.request):
            self.open[row] = False
            return True
        return bool(self._moving)

    def refuse(self, refusals: Sequence[tuple[str, BoolArray]]) -> None:
        """Take policies' refusals as one more constraint each."""
        if refusals:
            self._refusals = [(f"policy {name}", refused) for name, refused in refusals]
            self._refused = np.logical_or.reduce([refused for _, refused in refusals])

    def counts(self) -> dict[str, int]:
        """Nodes that fail each constraint before the first replica is placed; what no node fails is left out."""
        if not self._moving:
            return self._counted(self._failing)
        moving = [(one.name, _failing(one.mask(self.question))) for one in self._moving]
        return self._counted([*self._failing, *moving])

    def counts_now(self) -> dict[str, int]:
        """As `counts`, after what has been placed."""
        return self._counted([(one.name, _failing(one.mask(self.question))) for one in self.constraints.all])

    def failures(self, row: int) -> tuple[Failure, ...]:
        """Every constraint that one node fails, in order."""
        found = (one.failure(self.question, row) for one in self.constraints.all)
        return tuple(failure for failure in found if failure is not None)

    def _counted(self, failing: Sequence[tuple[str, int]]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name, nodes in failing:
            if nodes and nodes > counts.get(name, 0):
                counts[name] = nodes
        for name, refused in self._refusals:
            nodes = int(np.count_nonzero(refused))
            if nodes:
                counts[name] = nodes
        return counts


def _static(question: Question, constraints: Sequence[Constraint]) -> StaticMask:
    """Those of the constraints that no placement changes, as one mask."""
    kept = question.table.layout.masks
    keys = tuple([one.key for one in constraints])
    static = kept.get(keys)
    if static is None:
        if len(kept) >= MASKS_KEPT_MAX:
            kept.clear()
        static = kept[keys] = _combined(question, constraints)
    return static


def _combined(question: Question, constraints: Sequence[Constraint]) -> StaticMask:
    kept = question.table.layout.masks
    mask = np.ones(len(question.table.nodes), dtype=np.bool_)
    failing: list[tuple[str, int]] = []
    for one in constraints:
        own = kept.get(one.key)
        if own is None:
            alone = one.mask(question)
            own = kept[one.key] = StaticMask(alone, ((one.name, _failing(alone)),))
        mask &= own.mask
        failing += [(name, nodes) for name, nodes in own.failing if nodes]
    return StaticMask(mask, tuple(failing))


def _failing(mask: BoolArray) -> int:
    return len(mask) - int(np.count_nonzero(mask))
