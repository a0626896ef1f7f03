"""Words that errors about descriptions are made of: quoted values, bounds, and what was probably meant.

`validation.py` uses them for kinds, `options.py` for options and configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from .units import Unit

_TYPES: dict[type, str] = {str: "text", bool: "true or false", int: "an integer", float: "a number with a fraction"}


@dataclass(frozen=True)
class Bounds:
    """Least and largest values, in the Python unit."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def allow(self, value: float) -> bool:
        """Whether `value` is within them."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def words(self, what: str, unit: Unit | None = None) -> str:
        """`what` with its bounds: "an integer from 1 to 65535"."""
        least, over, most, under = (
            "" if bound is None else unit.format(bound) if unit else f"{bound:g}" if bound < 1e6 else f"{bound}"
            for bound in (self.ge, self.gt, self.le, self.lt)
        )
        if least and most:
            return f"{what}{',' if unit else ''} from {least} to {most}"
        bounds = [(" over ", over), (", at least ", least), (", under ", under), (", at most ", most)]
        return what + "".join(words + bound for words, bound in bounds if bound)


UNBOUNDED = Bounds()


CHOICES_MAX = 1000
"""Choices that a misspelt word is compared with; each costs microseconds."""


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most probably meant, whatever its case."""
    by_folded = {choice.casefold(): choice for choice in islice(choices, CHOICES_MAX)}
    close = get_close_matches(word[:64].casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def shown_value(value: object) -> str:
    """A value as an error quotes it: short, on one line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:60] + "…"


def shape(value: object) -> str:
    """What a value is, when it isn't what was expected: "'abc' is text", "a list", "empty"."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or value == "":
        return "empty"
    return f"{shown_value(value)} is {_TYPES.get(type(value), type(value).__name__)}"


def one_of(choices: Iterable[object]) -> str:
    """ "one of a, b, c", or the only choice itself."""
    words = [str(choice) for choice in choices]
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
