"""Adds up what the policies say of the nodes: each scaled to 0–1 over the feasible nodes, times its weight.

Kept current while the replicas of one need are placed: a policy says what changes with each (`rescore`), and scaling
is always over the nodes that are feasible for the next replica, so the result is the same as starting again each
time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...descriptions.errors import PluginError
from ...descriptions.kinds.application import Component
from ...policies.asking import Rating
from ...policies.node_table import BoolArray, FloatArray, IntArray
from ...policies.policy import Rejection
from ...policies.view import View
from .decider import Decider


@dataclass
class Term:
    """One policy's part of the total."""

    decider: Decider
    rating: Rating


class Scoring:
    """The policies of one need over all nodes."""

    def __init__(
        self,
        deciders: list[Decider],
        component: Component,
        view: View,
        asked: BoolArray,
        *,
        reasons: bool = False,
    ) -> None:
        """Ask every policy about the nodes in `asked`, those that a replica could stand on; raises `PluginError`."""
        self._component = component
        self._view = view
        self._asked = asked
        self._reasons = reasons
        self.terms: list[Term] = [Term(decider, self._ask(decider)) for decider in deciders]

    @property
    def refusals(self) -> list[tuple[str, BoolArray]]:
        """Policy name and the nodes that it refuses."""
        return [(term.decider.name, term.rating.refused) for term in self.terms if term.rating.refused is not None]

    def reason(self, row: int) -> list[tuple[str, Rejection]]:
        """Who refuses one node, and why; only where reasons were asked for."""
        found = [(term.decider.name, term.rating.reasons.get(row)) for term in self.terms]
        return [(name, rejection) for name, rejection in found if rejection is not None]

    @property
    def raws(self) -> list[FloatArray]:
        """Scores of the policies that score, in order."""
        return [term.rating.raw for term in self.terms if term.rating.raw is not None]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the policies that score, in order."""
        return tuple(term.decider.name for term in self.terms if term.rating.raw is not None)

    def placed(self, row: int) -> bool:
        """Ask again what a replica on `row` has changed; whether anything may have. Raises `PluginError`."""
        changed = False
        for term in self.terms:
            changed |= self._again(term, row)
        return changed

    def totals(self, rows: IntArray) -> FloatArray:
        """Weighted sum of scaled scores of the nodes in `rows`, which is not empty."""
        total = np.zeros(len(rows))
        for term in self.terms:
            if term.rating.raw is not None:
                scaled = scaled_to_unit(term.rating.raw[rows])
                scaled *= term.decider.weight
                total += scaled
        return total

    def _ask(self, decider: Decider) -> Rating:
        try:
            return decider.rate(self._component, self._view, self._asked, reasons=self._reasons)
        except PluginError as error:
            raise PluginError(decider.name, error.message) from error

    def _again(self, term: Term, row: int) -> bool:
        decider, rating = term.decider, term.rating
        if decider.rescore == "never":
            return False
        if decider.rescore == "all":
            term.rating = self._ask(decider)
            return True
        try:
            score, is_refused = decider.rate_row(self._component, self._view, row)
        except PluginError as error:
            raise PluginError(decider.name, error.message) from error
        if rating.raw is not None:
            rating.raw[row] = score
        if rating.refused is not None:
            rating.refused[row] = is_refused
        return True


def scaled_to_unit(raw: FloatArray) -> FloatArray:
    """To 0–1 from the least to the greatest; all 1 where they are equal."""
    least, greatest = float(raw.min()), float(raw.max())
    span = greatest - least
    if not span > 0:
        return np.ones(len(raw))
    if span == np.inf:  # halves keep the difference of the largest floats finite
        return scaled_to_unit(raw / 2)
    scaled: FloatArray = raw - least
    scaled /= span
    return scaled
