"""Which nodes can take the next replica of a need, and how many fail each constraint.

Masks of constraints that no placement changes are kept with the layout and shared by all needs; capacity is checked
again only on the node that was just chosen; constraints that look at the component's own replicas are evaluated for
each one.
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
        self._moving = [one for one in self.constraints if one.moves]
        self._failing: list[tuple[str, int]] = []
        self._refusals: list[tuple[str, BoolArray]] = []
        self._refused: BoolArray | None = None
        static = [one for one in self.constraints if one.key is not None]
        mask = self._static(static)
        question.static = StaticMask(mask, tuple(self._failing))
        self.open: BoolArray = mask.copy()
        """Nodes that pass everything but the constraints that move."""
        for one in self.constraints:
            if one.key is None and not one.moves:
                self._narrow(one)

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
        """Look again at the node that has just taken a replica; whether anything may have changed for the next."""
        self.question.left -= 1
        if self.open[row] and not self.question.table.ledger.fits(row, self.question.request):
            self.open[row] = False
            return True
        return bool(self._moving)

    def refuse(self, refusals: Sequence[tuple[str, BoolArray]]) -> None:
        """Take policies' refusals as one more constraint each."""
        self._refusals = [(f"policy {name}", refused) for name, refused in refusals]
        self._refused = np.logical_or.reduce([refused for _, refused in refusals]) if refusals else None

    def counts(self) -> dict[str, int]:
        """Nodes that fail each constraint before the first replica is placed; what no node fails is left out."""
        moving = [(one.name, _failing(one.mask(self.question))) for one in self._moving]
        return self._counted([*self._failing, *moving])

    def counts_now(self) -> dict[str, int]:
        """As `counts`, after what has been placed."""
        return self._counted([(one.name, _failing(one.mask(self.question))) for one in self.constraints])

    def _counted(self, failing: Sequence[tuple[str, int]]) -> dict[str, int]:
        refusals = [(name, int(np.count_nonzero(refused))) for name, refused in self._refusals]
        counts: dict[str, int] = {}
        for name, nodes in [*failing, *refusals]:
            if nodes:
                counts[name] = max(nodes, counts.get(name, 0))
        return counts

    def failures(self, row: int) -> tuple[Failure, ...]:
        """Every constraint that one node fails, in order."""
        found = (one.failure(self.question, row) for one in self.constraints)
        return tuple(failure for failure in found if failure is not None)

    def _static(self, constraints: Sequence[Constraint]) -> BoolArray:
        kept = self.question.table.layout.masks
        if len(kept) > MASKS_KEPT_MAX:
            kept.clear()
        mask = np.ones(len(self.question.table.nodes), dtype=np.bool_)
        for one in constraints:
            static = kept.get(one.key)
            if static is None:
                own = one.mask(self.question)
                static = kept[one.key] = StaticMask(own, ((one.name, _failing(own)),))
            mask &= static.mask
            self._failing.extend(static.failing)
        return mask

    def _narrow(self, one: Constraint) -> None:
        mask = one.mask(self.question)
        self._failing.append((one.name, _failing(mask)))
        self.open &= mask


def _failing(mask: BoolArray) -> int:
    return len(mask) - int(np.count_nonzero(mask))
