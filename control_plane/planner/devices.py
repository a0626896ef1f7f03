"""Gives accelerators of several kinds to several requests that overlap: any GPU here, a GPU of that model there.

Hall's theorem decides whether it can be done: for every set of requests, the kinds that any of them accepts must hold
enough for all of them. `enough` says it for many nodes at once, `assign` finds one assignment on one node; they
agree (`tests/control_plane/planner/test_devices.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...policies.node_table import BoolArray, IntArray


@dataclass(frozen=True)
class Want:
    """One request: the kinds that it accepts and how many it takes of them together."""

    kinds: tuple[int, ...]
    count: int


def enough(free: IntArray, wants: Sequence[Want]) -> BoolArray:
    """Whether all wants can be met at once; `free` has shape `(kinds, nodes)`, the answer `(nodes,)`."""
    met = np.ones(free.shape[1], dtype=np.bool_)
    available = np.maximum(free, 0)
    for kinds, count in _demands(wants):
        met &= available[list(kinds)].sum(axis=0) >= count
    return met


def shortage(free: Sequence[int], wants: Sequence[Want]) -> tuple[tuple[int, ...], int, int] | None:
    """Kinds, number wanted and number free of the first set of wants that one node can't meet; None where it can."""
    for kinds, count in _demands(wants):
        available = sum(max(0, free[kind]) for kind in kinds)
        if available < count:
            return kinds, count, available
    return None


def assign(free: Sequence[int], wants: Sequence[Want]) -> dict[int, int] | None:
    """How many of each kind to take on one node, or None; the choosiest want is served first, plainer kinds first."""
    if shortage(free, wants) is not None:
        return None
    order = sorted(wants, key=lambda want: (len(want.kinds), want.kinds))
    taken = _serve([max(0, count) for count in free], order)
    assert taken is not None, "Hall's condition holds, so there is an assignment"
    return taken


def _serve(free: list[int], wants: Sequence[Want]) -> dict[int, int] | None:
    """Serve the first want unit by unit, then the rest; a kind is left where the rest could not be served after it."""
    if not wants:
        return {}
    first, rest = wants[0], wants[1:]
    taken: dict[int, int] = {}
    left = first.count
    for kind in first.kinds:
        while left and free[kind] > 0:
            free[kind] -= 1
            remaining = [Want(first.kinds, left - 1), *rest]
            if shortage(free, remaining) is not None:
                free[kind] += 1
                break
            taken[kind] = taken.get(kind, 0) + 1
            left -= 1
    if left:
        return None
    others = _serve(free, rest)
    return None if others is None else {k: taken.get(k, 0) + others.get(k, 0) for k in {**taken, **others}}


def _demands(wants: Sequence[Want]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every set of wants that share kinds, as the kinds that any of them accepts and their total."""
    merged: dict[tuple[int, ...], int] = {}
    for want in wants:
        merged[want.kinds] = merged.get(want.kinds, 0) + want.count
    for group in _overlapping(list(merged)):
        for size in range(1, len(group) + 1):
            for some in combinations(group, size):
                kinds = tuple(sorted({kind for one in some for kind in one}))
                yield kinds, sum(merged[one] for one in some)


def _overlapping(sets: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Groups of sets that share an element, directly or through others; sets of two groups never compete."""
    groups: list[list[tuple[int, ...]]] = []
    for one in sets:
        touching = [group for group in groups if any(set(one) & set(other) for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append([other for group in touching for other in group] + [one])
    return groups
