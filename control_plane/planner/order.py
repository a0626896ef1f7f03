"""In which order needs are decided: higher priority first, then by application, and what others must stand beside
first.

The order depends on what the needs are, never on how they were listed, so the same needs always get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...policies.relations import stands_with
from .snapshot import Need
from .table import Table


def in_order(table: Table, needs: Iterable[Need]) -> list[Need]:
    """Sort needs; needs of components that nobody describes come last."""
    ranks: dict[str, dict[str, int]] = {}

    def key(need: Need) -> tuple[object, ...]:
        application = table.applications.get(need.application)
        if application is None:
            return (1, 0, need.application, 0, need.component, *_rest(need))
        if need.application not in ranks:
            ranks[need.application] = _ranks(table, need.application)
        rank = ranks[need.application].get(need.component, len(ranks[need.application]))
        return (0, -application.spec.priority, need.application, rank, need.component, *_rest(need))

    return sorted(needs, key=key)


def _rest(need: Need) -> tuple[object, ...]:
    return (need.cause, need.node, need.count, need.replaces, need.avoid)


def _ranks(table: Table, application: str) -> dict[str, int]:
    """Place of each component: as described, but after what it must stand with; a circle is broken where it is met."""
    parts = {part.name: part for part in table.applications[application].spec.components}
    befores = {name: sorted(stands_with(part) & parts.keys()) for name, part in parts.items()}
    ranks: dict[str, int] = {}
    for name in parts:
        _rank(name, befores, ranks, set())
    return ranks


def _rank(name: str, befores: dict[str, list[str]], ranks: dict[str, int], entered: set[str]) -> None:
    """Rank `name` after what comes before it, without recursion: chains may be as long as an application."""
    waiting = [name]
    while waiting:
        last = waiting[-1]
        ahead = [other for other in befores[last] if other not in ranks and other not in entered]
        entered.add(last)
        if ahead:
            waiting.append(ahead[0])
        else:
            ranks.setdefault(waiting.pop(), len(ranks))
