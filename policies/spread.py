"""Keep replicas of a component apart: over datacenters, then clusters, then nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..descriptions.kinds.application import Component
from .node_table import FloatArray, IntArray, NodeTable
from .policy import Policy, Rescore
from .view import View


@dataclass(frozen=True)
class Spread(Policy):
    """Prefer the datacenter with the fewest replicas of the component, then the cluster, then the node.

    Of nodes that are equal in all three, the one with the fewest replicas of any application is best. Nodes without a
    datacenter or cluster form a group of their own.
    """

    rescore: ClassVar[Rescore] = "all"

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """Minus the numbers of replicas, each level worth more than all below it together."""
        cost = nodes.replicas / (nodes.replicas + 1.0)
        count = int(nodes.siblings.sum())
        if count:
            cost += nodes.siblings
            cost += _in_domain(nodes.cluster_code, nodes.siblings) * (count + 1)
            cost += _in_domain(nodes.datacenter_code, nodes.siblings) * (count + 1) ** 2
        return -cost


def _in_domain(codes: IntArray, siblings: IntArray) -> FloatArray:
    counts = np.bincount(codes + 1, weights=siblings).astype(np.float64)
    return counts[codes + 1]
