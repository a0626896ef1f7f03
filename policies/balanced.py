"""The default policy: even load, replicas apart, and close to what the component talks to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..descriptions.kinds.application import Component
from ..descriptions.options import option
from .node_table import FloatArray, NodeTable
from .node_view import NodeView
from .partners import destinations, distances_s, nearest_of
from .policy import Policy, Rescore
from .view import View

RTT_S_HALF = 0.010
"""A round trip of this length halves the part for latency: about what a metropolitan link adds."""

RTT_S_UNKNOWN = 0.100
"""What counts where no link is described: worse than most links that are, so that describing them pays."""


@dataclass(frozen=True)
class Balanced(Policy):
    """Even out load, keep replicas of a component apart, and stay close to the components it talks to.

    The score is the weighted sum of three parts, each between 0 and 1: what is left of the scarcer of CPU and memory
    after placing, one over one plus the replicas of the component that are on the node, and the mean closeness to
    partners.
    """

    rescore: ClassVar[Rescore] = "row"

    load: float = option(1.0, ge=0)
    """Weight of even load."""
    spread: float = option(1.0, ge=0)
    """Weight of standing apart from replicas of the same component."""
    latency: float = option(1.0, ge=0)
    """Weight of short round trips to the components that this one talks to."""

    def score(self, component: Component, node: NodeView, view: View) -> float:
        """`score_all` of one node, for asking again after a replica was placed there."""
        total = node_headroom(node, view) * self.load + self.spread / (node.siblings + 1)
        ends = destinations(component, view) if self.latency else []
        for rows in ends:
            total += self.latency / len(ends) * node_closeness(nearest_of(rows, node.row, view))
        return total

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """The sum of the three parts."""
        score = headroom(nodes, view)
        if self.load != 1:
            score *= self.load
        if view.replicas_of(component.name):
            score += self.spread / (nodes.siblings + 1)
        else:
            score += self.spread
        distances = distances_s(component, nodes, view) if self.latency else []
        for distance in distances:
            score += self.latency / len(distances) * closeness(distance)
        return score


def headroom(nodes: NodeTable, view: View) -> FloatArray:
    """Share of the scarcer of CPU and memory that is free after one more replica; shape `(nodes,)`."""
    cpu = (nodes.cpu_millis_free - view.request.cpu_millis) * nodes.per_cpu_milli
    memory = (nodes.memory_bytes_free - view.request.memory_bytes) * nodes.per_memory_byte
    return np.minimum(cpu, memory, out=cpu)


def closeness(rtt_s: FloatArray) -> FloatArray:
    """1 on the same node, falling with the round trip; NaN counts as `RTT_S_UNKNOWN`."""
    known = np.where(np.isnan(rtt_s), RTT_S_UNKNOWN, rtt_s)
    close: FloatArray = RTT_S_HALF / (RTT_S_HALF + known)
    return close


def node_headroom(node: NodeView, view: View) -> float:
    """`headroom` of one node, by the same operations."""
    table, row = view.nodes, node.row
    cpu = (int(table.cpu_millis_free[row]) - view.request.cpu_millis) * float(table.per_cpu_milli[row])
    memory = (int(table.memory_bytes_free[row]) - view.request.memory_bytes) * float(table.per_memory_byte[row])
    return min(cpu, memory)


def node_closeness(rtt_s: float | None) -> float:
    """`closeness` of one node."""
    return RTT_S_HALF / (RTT_S_HALF + (RTT_S_UNKNOWN if rtt_s is None else rtt_s))
