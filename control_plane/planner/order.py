"""In which order needs are decided: higher priority first, then by application, and what others must stand beside
first.

The order depends on what the needs are, never on how they were listed, so the same needs always get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from .snapshot import Need
from .table import Table


def in_order(table: Table, needs: Iterable[Need]) -> list[Need]:
    """Sort needs; needs of components that nobody describes come last."""

    def key(need: Need) -> tuple[object, ...]:
        application = table.applications.get(need.application)
        if application is None:
            return (1, 0, need.application, 0, need.component, *_rest(need))
        ranks = table.ranks(application)
        rank = ranks.get(need.component, len(ranks))
        return (0, -application.spec.priority, need.application, rank, need.component, *_rest(need))

    return sorted(needs, key=key)


def _rest(need: Need) -> tuple[object, ...]:
    return (need.cause, need.node, need.count, need.replaces, need.avoid)
