"""Label selectors as Kubernetes writes them: `tier=gold,zone in (a,b),!old`.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .refusals import InvalidError

TERMS_MAX = 32

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?|"
_COMPARED = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_IN_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_PRESENT = re.compile(rf"(!?)\s*({_KEY})")
_COMMAS_OUTSIDE_SETS = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True)
class Term:
    """One condition; all of a selector's must hold."""

    key: str
    test: Literal["in", "notin", "exists", "absent"]
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As in Kubernetes, `notin` and `!=` also hold where the label is missing."""
        if self.test == "in":
            return labels.get(self.key) in self.values
        if self.test == "notin":
            return labels.get(self.key) not in self.values
        return (self.key in labels) == (self.test == "exists")


@dataclass(frozen=True)
class Selector:
    """A parsed selector; an empty one selects everything."""

    terms: tuple[Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(term.matches(labels) for term in self.terms)


def parse_selector(text: str) -> Selector:
    """Parse a selector. Raises `InvalidError` that names the term."""
    if not text.strip():
        return Selector()
    parts = _COMMAS_OUTSIDE_SETS.split(text)
    if len(parts) > TERMS_MAX:
        raise InvalidError(f"labelSelector has more than {TERMS_MAX} terms")
    return Selector(tuple(_term(part.strip()) for part in parts))


def _term(text: str) -> Term:
    if found := _COMPARED.fullmatch(text):
        return Term(found[1], "notin" if found[2] == "!=" else "in", frozenset({found[3]}))
    if found := _IN_SET.fullmatch(text):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Term(found[1], "in" if found[2] == "in" else "notin", values)
    if found := _PRESENT.fullmatch(text):
        return Term(found[2], "absent" if found[1] else "exists")
    raise InvalidError(
        f"labelSelector: {text[:64]!r} is no term; expected key=value, key!=value, key in (a,b), key notin (a,b), "
        "key or !key"
    )
