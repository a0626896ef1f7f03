"""The units over which affinity and spread count: a node, its cluster, its datacenter, its layer."""

from __future__ import annotations

import numpy as np

from ...descriptions.kinds.application import Topology
from ...policies.node_table import IntArray, NodeTable


def codes_of(nodes: NodeTable, topology: Topology) -> IntArray:
    """The domain of each node as a number from 0; -1 for a node that is in none."""
    match topology:
        case Topology.NODE:
            return np.arange(len(nodes), dtype=np.int64)
        case Topology.CLUSTER:
            return nodes.cluster_code
        case Topology.DATACENTER:
            return nodes.datacenter_code
        case Topology.LAYER:
            return nodes.layer_code


def domain_count(nodes: NodeTable, topology: Topology) -> int:
    """How many domains there are."""
    names = {Topology.CLUSTER: nodes.clusters, Topology.DATACENTER: nodes.datacenters, Topology.LAYER: nodes.layers}
    return len(names[topology]) if topology in names else len(nodes)


def domain_name(nodes: NodeTable, topology: Topology, code: int) -> str:
    """How people call a domain."""
    if topology is Topology.NODE:
        return nodes.names[code]
    names = {Topology.CLUSTER: nodes.clusters, Topology.DATACENTER: nodes.datacenters, Topology.LAYER: nodes.layers}
    return f"{topology.value} {names[topology][code]}"
