"""Fill nodes one after the other, so that others stay empty and can be switched off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..descriptions.kinds.application import Component
from .node_table import FloatArray, NodeTable
from .policy import Policy, Rescore
from .view import View


@dataclass(frozen=True)
class Binpack(Policy):
    """Prefer the node that is fullest once the replica is on it: the mean of its CPU and memory shares in use."""

    rescore: ClassVar[Rescore] = "row"

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """0 for an empty node, 1 for a full one; what a node has none of counts as unused."""
        cpu = (nodes.cpu_millis - nodes.cpu_millis_free + view.request.cpu_millis) * nodes.per_cpu_milli
        memory = (nodes.memory_bytes - nodes.memory_bytes_free + view.request.memory_bytes) * nodes.per_memory_byte
        score: FloatArray = np.add(cpu, memory, out=cpu)
        score /= 2
        return score
