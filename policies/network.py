"""Round trips and bandwidth between nodes, from the links that nodes and datacenters describe.

A link names its far end as `node:`, `cluster:`, `datacenter:`, `layer:` or `*`; the most specific one that covers a
pair counts, whichever end describes it, and of two equally specific ones the worse. So every pair has one value, the
same from both ends. The matrices are sparse: one row is computed when a decision first needs it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .node_table import FloatArray, IntArray, NodeTable

ROWS_KEPT_MAX = 256
"""Rows of the matrices that are kept; one of 10,000 nodes takes 160 kB."""

LEVELS = ("*", "layer", "datacenter", "cluster", "node")
"""From the least specific to the most."""


@dataclass(frozen=True)
class LinkFacts:
    """A link of one node; NaN where a quality isn't described."""

    to: str
    rtt_s: float = float("nan")
    bandwidth_bps: float = float("nan")


@dataclass(frozen=True)
class Reach:
    """One node's network to every node: shape `(nodes,)`, NaN where no link covers the pair."""

    rtt_s: FloatArray
    bandwidth_bps: FloatArray


@dataclass(frozen=True)
class _Described:
    """The links to one end: who describes them, and what they say."""

    rows: IntArray
    rtt_s: FloatArray
    bandwidth_bps: FloatArray


class Network:
    """Qualities between rows of a node table."""

    def __init__(self, nodes: NodeTable, links: Sequence[tuple[LinkFacts, ...]]) -> None:
        """`links[row]` are those of the node in that row; of two to the same far end the first counts."""
        self.links = tuple(links)
        self._nodes = nodes
        self._described = _by_end(links)
        self._kept: OrderedDict[int, Reach] = OrderedDict()

    def rtt_s(self, a: int, b: int) -> float | None:
        """Round trip in seconds between two rows; None where no link covers them."""
        return _known(self._kept[a].rtt_s[b] if a in self._kept else self.reach(b).rtt_s[a])

    def bandwidth_bps(self, a: int, b: int) -> float | None:
        """Bits a second between two rows; None where no link covers them."""
        return _known(self._kept[a].bandwidth_bps[b] if a in self._kept else self.reach(b).bandwidth_bps[a])

    def reach(self, row: int) -> Reach:
        """From one node to all."""
        kept = self._kept.get(row)
        if kept is not None:
            self._kept.move_to_end(row)
            return kept
        if len(self._kept) >= ROWS_KEPT_MAX:
            self._kept.popitem(last=False)
        kept = self._kept[row] = self._compute(row)
        return kept

    def _compute(self, row: int) -> Reach:
        rtt_s, bandwidth_bps = _unknown(len(self._nodes)), _unknown(len(self._nodes))
        for level in LEVELS:
            here, there = self._described_here(level, row), self._described_there(level, row)
            _cover(rtt_s, np.fmax(here.rtt_s, there.rtt_s))
            _cover(bandwidth_bps, np.fmin(here.bandwidth_bps, there.bandwidth_bps))
        rtt_s[row], bandwidth_bps[row] = 0.0, np.inf
        return Reach(rtt_s, bandwidth_bps)

    def _described_here(self, level: str, row: int) -> Reach:
        """What the node's own links of one level say of the others."""
        found = Reach(_unknown(len(self._nodes)), _unknown(len(self._nodes)))
        for link in reversed(self.links[row]):  # the first of two to the same end is written last
            kind, _, name = link.to.partition(":")
            if kind == level:
                rows = self._rows(kind, name)
                found.rtt_s[rows] = link.rtt_s
                found.bandwidth_bps[rows] = link.bandwidth_bps
        return found

    def _described_there(self, level: str, row: int) -> Reach:
        """What the others' links of one level say of this node."""
        found = Reach(_unknown(len(self._nodes)), _unknown(len(self._nodes)))
        facts = self._nodes.facts[row]
        names = {"*": "", "layer": facts.layer, "datacenter": facts.datacenter, "cluster": facts.cluster}
        end = "*" if level == "*" else f"{level}:{names.get(level, facts.name)}"
        described = self._described.get(end)
        if described is not None:
            found.rtt_s[described.rows] = described.rtt_s
            found.bandwidth_bps[described.rows] = described.bandwidth_bps
        return found

    def _rows(self, kind: str, name: str) -> IntArray | slice:
        nodes = self._nodes
        if kind == "*":
            return slice(None)
        if kind == "node":
            return np.array([nodes.row_of[name]] if name in nodes.row_of else [], dtype=np.int64)
        names, codes = {
            "layer": (nodes.layers, nodes.layer_code),
            "cluster": (nodes.clusters, nodes.cluster_code),
            "datacenter": (nodes.datacenters, nodes.datacenter_code),
        }[kind]
        return np.flatnonzero(codes == (names.index(name) if name in names else -2))


def _by_end(links: Sequence[tuple[LinkFacts, ...]]) -> dict[str, _Described]:
    described: dict[str, list[tuple[int, LinkFacts]]] = {}
    for row, own in enumerate(links):
        firsts: dict[str, LinkFacts] = {}
        for link in own:
            firsts.setdefault(link.to, link)
        for end, link in firsts.items():
            described.setdefault(end, []).append((row, link))
    return {end: _columns(rows) for end, rows in described.items()}


def _columns(described: list[tuple[int, LinkFacts]]) -> _Described:
    return _Described(
        np.array([row for row, _ in described], dtype=np.int64),
        np.array([link.rtt_s for _, link in described], dtype=np.float64),
        np.array([link.bandwidth_bps for _, link in described], dtype=np.float64),
    )


def _cover(values: FloatArray, described: FloatArray) -> None:
    np.copyto(values, described, where=~np.isnan(described))


def _unknown(count: int) -> FloatArray:
    return np.full(count, np.nan)


def _known(value: np.float64 | float) -> float | None:
    number = float(value)
    return number if number == number else None
