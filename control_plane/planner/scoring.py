"""Asks the policies about the nodes of one need, and asks again what a replica that was placed has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...descriptions.errors import PluginError
from ...descriptions.kinds.application import Component
from ...policies.asking import Rating
from ...policies.node_table import BoolArray, FloatArray
from ...policies.policy import Rejection
from ...policies.view import View
from .decider import Decider

Changed = Literal["nothing", "row", "all"]
"""What differs after a replica was placed: no score, that of its node alone, or perhaps every score and refusal."""


@dataclass
class Term:
    """One policy's part of the total."""

    decider: Decider
    rating: Rating


class Scoring:
    """The policies of one need over all nodes."""

    def __init__(
        self, deciders: Sequence[Decider], component: Component, view: View, asked: BoolArray, *, reasons: bool = False
    ) -> None:
        """Ask every policy about the nodes in `asked`, those that a replica could stand on; raises `PluginError`."""
        self._component = component
        self._view = view
        self._asked = asked
        self._reasons = reasons
        self.terms = [Term(decider, self._ask(decider)) for decider in deciders]
        self.scorers = [term for term in self.terms if term.rating.raw is not None]
        """Those that score, in order."""

    @property
    def refusals(self) -> list[tuple[str, BoolArray]]:
        """Policy name and the nodes that it refuses."""
        return [(term.decider.name, term.rating.refused) for term in self.terms if term.rating.refused is not None]

    @property
    def raws(self) -> list[FloatArray]:
        """Scores of the policies that score, in order."""
        return [term.rating.raw for term in self.scorers if term.rating.raw is not None]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the policies that score, in order."""
        return tuple([term.decider.name for term in self.scorers])

    def reasons(self, row: int) -> list[tuple[str, Rejection]]:
        """Who refuses one node, and why; only where reasons were asked for."""
        found = [(term.decider.name, term.rating.reasons.get(row)) for term in self.terms]
        return [(name, rejection) for name, rejection in found if rejection is not None]

    def placed(self, row: int) -> Changed:
        """Ask again what a replica on `row` has changed; raises `PluginError`."""
        changed: Changed = "nothing"
        for term in self.terms:
            rescore = term.decider.rescore
            if rescore == "never":
                continue
            if rescore == "row" and term.rating.refused is None:
                self._ask_row(term, row)
                changed = "row" if changed == "nothing" else changed
            else:
                term.rating = self._ask(term.decider)
                changed = "all"
        return changed

    def _ask(self, decider: Decider) -> Rating:
        try:
            return decider.rate(self._component, self._view, self._asked, reasons=self._reasons)
        except PluginError as error:
            raise PluginError(decider.name, error.message) from error

    def _ask_row(self, term: Term, row: int) -> None:
        try:
            score, _ = term.decider.rate_row(self._component, self._view, row)
        except PluginError as error:
            raise PluginError(term.decider.name, error.message) from error
        if term.rating.raw is not None:
            term.rating.raw[row] = score
