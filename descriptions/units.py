"""Turns quantities as people write them (`250m`, `64Mi`, `20ms`, `1.4GHz`) into numbers, once, and back into text.

Used by the pydantic types in `quantities.py`, by `options.py` and by the agent, so it imports no pydantic. A quantity is
kept as a whole count of its unit's resolution and rounded to it, so every value has one canonical text and
`parse(format(value)) == value` holds exactly. Suffixes follow Kubernetes for cores and bytes and Go for durations:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from .errors import DescriptionError

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,12})?"


@dataclass(frozen=True)
class Unit:
    """One quantity: its suffixes, its resolution and its range.

    `suffixes` map each canonical suffix to its worth in counts of the resolution, largest first; `aliases` are read but
    never written. `per_unit` is how many counts make 1 in Python (1000 for cores kept in millicores). A `bare` number
    has an obvious unit and needs no suffix.
    """

    name: str
    example: str
    suffixes: tuple[tuple[str, int], ...]
    per_unit: int
    value_max: float
    bare: bool = False
    aliases: tuple[tuple[str, str], ...] = field(default=())

    @cached_property
    def pattern(self) -> str:
        """Anchored regular expression of the texts that `parse` reads (ECMA 262, for JSON Schema)."""
        words = [word for word, _ in (*self.suffixes, *self.aliases) if word]
        optional = "?" if self.bare else ""
        return f"^{_NUMBER}({'|'.join(re.escape(word) for word in words)}){optional}$"

    @cached_property
    def _counts(self) -> dict[str, int]:
        counts = dict(self.suffixes)
        return counts | {alias: counts[word] for alias, word in self.aliases}

    @cached_property
    def _split(self) -> re.Pattern[str]:
        return re.compile(rf"(-?{_NUMBER})([^0-9.\s]*)")

    @property
    def expected(self) -> str:
        """Completes "expected …" in an error."""
        return f"{self.name} such as {self.example}"

    def parse(self, text: str) -> float:
        """Read `text`. Raises `DescriptionError` where it isn't this quantity, is negative or out of range."""
        match = self._split.fullmatch(text)
        if match is None:
            raise self._refused(f"{_shown(text)} is not {self.name}")
        number, suffix = match.groups()
        count = self._counts.get(suffix)
        if count is None:
            what = f"has the unknown unit {suffix[:16]!r}" if suffix else "has no unit"
            raise self._refused(f"{_shown(text)} {what}")
        return self._in_range(Decimal(number) * count, _shown(text))

    def check(self, value: float) -> float:
        """Round a number that is already in the Python unit to the resolution, or raise `DescriptionError`."""
        if isinstance(value, bool) or not math.isfinite(value):
            raise self._refused(f"{value} is not {self.name}")
        return self._in_range(self._exact(value), str(value))

    def format(self, value: float) -> str:
        """The one canonical text: the shortest, whole numbers before fractions, large suffixes before small ones."""
        count = int(self._exact(value).to_integral_value())
        if count == 0:
            return "0" + self.suffixes[self._unit_index][0]
        texts = [f"{number}{suffix}" for suffix, worth in self.suffixes if (number := _quotient(count, worth))]
        return min(texts, key=lambda text: (len(text), "." in text))

    @cached_property
    def _unit_index(self) -> int:
        return next(index for index, (_, worth) in enumerate(self.suffixes) if worth == self.per_unit)

    def _exact(self, value: float) -> Decimal:
        # repr is the shortest text that gives the same float, so a value that came from `parse` is whole again here.
        return Decimal(repr(value)) * self.per_unit

    def _in_range(self, exact: Decimal, shown: str) -> float:
        if exact < 0:
            raise self._refused(f"{shown} is negative")
        if exact > Decimal(repr(self.value_max)) * self.per_unit:
            raise self._refused(f"{shown} is over the largest {self.format(self.value_max)}")
        count = int(exact.to_integral_value())
        if count == 0 and exact > 0:
            raise self._refused(f"{shown} is finer than the smallest step {self.format(1 / self.per_unit)}")
        return count if self.per_unit == 1 and self is BYTES else count / self.per_unit

    def _refused(self, message: str) -> DescriptionError:
        return DescriptionError(message, expected=self.expected)
