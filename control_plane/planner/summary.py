"""Decisions in a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .snapshot import Need

NAMES_SHOWN = 5


def summary_of(need: Need, nodes: Sequence[str], unplaced: int, counts: Mapping[str, int], of: int) -> str:
    """What became of a need; `counts` say how many of the slice's `of` nodes fail each constraint."""
    if not unplaced:
        return f"{replicas(len(nodes))} of {need.key} placed on {listed(nodes)}"
    why = why_not(counts, of)
    if not nodes:
        return f"{replicas(unplaced)} of {need.key} found no node: {why}"
    return f"{len(nodes)} of {need.count} replicas of {need.key} placed on {listed(nodes)}; no node for the rest: {why}"


def why_not(counts: Mapping[str, int], of: int) -> str:
    """`12 nodes: 8 layers, 5 memory`, the most frequent first."""
    if not of:
        return "the slice has no nodes"
    failing = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return f"of {of} nodes fail {', '.join(f'{nodes} {name}' for name, nodes in failing)}"


def replicas(count: int) -> str:
    """`1 replica`, `3 replicas`."""
    return "1 replica" if count == 1 else f"{count} replicas"


def listed(nodes: Sequence[str]) -> str:
    """The first few names, each once, and how many more."""
    distinct = list(dict.fromkeys(nodes))
    rest = f" and {len(distinct) - NAMES_SHOWN} more" if len(distinct) > NAMES_SHOWN else ""
    return ", ".join(distinct[:NAMES_SHOWN]) + rest
