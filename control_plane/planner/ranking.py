"""Adds up scores: each policy's scaled to 0–1 over the nodes that can take the next replica, times its weight.

Where one policy scores alone, its own order counts, so that scaling never makes two of its scores equal. When one
node's score changes, only what follows from it is computed again; the result is bit for bit that of starting anew,
because the same operations are done on the same numbers in the same order (a Hypothesis test holds it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...descriptions.errors import PluginError
from ...policies.node_table import FloatArray, IntArray
from .decider import Decider
from .scoring import Term


@dataclass
class _Part:
    """One policy's scores of the nodes in the ranking."""

    decider: Decider
    raw: FloatArray
    least: float
    greatest: float

    @property
    def span(self) -> float:
        return self.greatest - self.least

    def scaled(self) -> FloatArray:
        """To 0–1 from the least to the greatest; all 1 where they are equal."""
        span = self.span
        if not span > 0:
            return np.ones(len(self.raw))
        if math.isinf(span):  # halves keep the difference of the largest floats finite
            scaled = self.raw / 2 - self.least / 2
            scaled /= self.greatest / 2 - self.least / 2
            return scaled
        scaled = self.raw - self.least
        scaled /= span
        return scaled

    def scaled_at(self, at: int) -> float:
        """As `scaled`, for one node."""
        span = self.span
        raw = float(self.raw[at])
        if not span > 0:
            return 1.0
        if math.isinf(span):
            return (raw / 2 - self.least / 2) / (self.greatest / 2 - self.least / 2)
        return (raw - self.least) / span


class Ranking:
    """The nodes in `rows`, by name, with the total of each."""

    def __init__(self, rows: IntArray, scorers: list[Term], names: tuple[str, ...]) -> None:
        """Raises `PluginError` where a score of one of the nodes is not finite."""
        self.rows = rows
        self._names = names
        self._parts = [self._part(term) for term in scorers] if len(rows) else []
        self._is_alone = len(self._parts) == 1 and self._parts[0].decider.weight > 0
        self.order: FloatArray = self._parts[0].raw if self._is_alone else self._added()
        """What nodes are ordered by: the highest first, of equal ones the first by name."""

    def leading(self, count: int) -> list[int]:
        """Places of the best nodes, best first."""
        order, places, values = self.order, [], []
        for _ in range(min(count, len(self.rows))):
            at = int(order.argmax())
            places.append(at)
            values.append(order[at])
            order[at] = -np.inf
        order[places] = values
        return places

    def total(self, at: int) -> float:
        """Sum of scaled score times weight of one node."""
        return self._total_at(at) if self._is_alone else float(self.order[at])

    def totals(self) -> FloatArray:
        """Of all nodes."""
        return self._added() if self._is_alone else self.order

    def scaled(self) -> list[FloatArray]:
        """Scaled scores of each policy, in order."""
        return [part.scaled() for part in self._parts]

    def changed(self, at: int, scorers: list[Term]) -> None:
        """Take the present scores of the node at place `at`."""
        row = int(self.rows[at])
        is_rescaled = False
        for part, term in zip(self._parts, scorers, strict=True):
            assert term.rating.raw is not None, "scorers score"
            is_rescaled |= self._take(part, at, float(term.rating.raw[row]))
        if self._is_alone:
            return
        if is_rescaled:
            self.order = self._added()
        else:
            self.order[at] = self._total_at(at)

    def _part(self, term: Term) -> _Part:
        assert term.rating.raw is not None, "scorers score"
        raw = term.rating.raw[self.rows]
        least, greatest = float(np.minimum.reduce(raw)), float(np.maximum.reduce(raw))
        # Both are NaN where any score is.
        if not (math.isfinite(least) and math.isfinite(greatest)):
            self._refuse(term.decider, raw)
        return _Part(term.decider, raw, least, greatest)

    def _take(self, part: _Part, at: int, value: float) -> bool:
        """Put one score in place; whether the scale changes with it."""
        before = float(part.raw[at])
        if value == before:
            return False
        if not math.isfinite(value):
            raise PluginError(part.decider.name, f"score of {self._names[self.rows[at]]} is {value}; must be finite")
        part.raw[at] = value
        least, greatest = part.least, part.greatest
        if before == least or value < least:
            part.least = float(np.minimum.reduce(part.raw))
        if before == greatest or value > greatest:
            part.greatest = float(np.maximum.reduce(part.raw))
        return part.least != least or part.greatest != greatest

    def _added(self) -> FloatArray:
        totals = np.zeros(len(self.rows))
        for part in self._parts:
            scaled = part.scaled()
            scaled *= part.decider.weight
            totals += scaled
        return totals

    def _total_at(self, at: int) -> float:
        total = 0.0
        for part in self._parts:
            total += part.scaled_at(at) * part.decider.weight
        return total

    def _refuse(self, decider: Decider, raw: FloatArray) -> None:
        bad = int(np.flatnonzero(~np.isfinite(raw))[0])
        where = self._names[self.rows[bad]]
        raise PluginError(decider.name, f"score of {where} is {raw[bad]}; scores must be finite")
