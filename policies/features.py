"""The feature table that learned policies see: one row a node, one float32 column a feature, in this order for ever.

New features are added at the end, so that a model trained on the first k goes on working: it is given as many columns
as its input takes. `onnx.py` feeds it to a model; write the same table from recorded decisions to train one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..descriptions.kinds.application import Component
from .node_table import FloatArray, NodeTable
from .partners import distances_s
from .view import View

FEATURES: tuple[tuple[str, str], ...] = (
    ("cpu_share_free", "free CPU after placing, share of the node, 0–1"),
    ("memory_share_free", "free memory after placing, share of the node, 0–1"),
    ("cpu_share_needed", "CPU of one replica, share of the node"),
    ("memory_share_needed", "memory of one replica, share of the node"),
    ("replicas", "replicas of any application on the node"),
    ("siblings", "replicas of the same component on the node"),
    ("is_cloud", "1 in layer cloud"),
    ("is_edge_infrastructure", "1 in layer edge-infrastructure"),
    ("is_edge", "1 in layer edge"),
    ("is_far_edge", "1 in layer far-edge"),
    ("rtt_s", "mean round trip to the nearest replica of each partner; 0 without partners, -1 where not described"),
    ("price_per_h", "of the whole node, energy not included"),
    ("energy_price_per_kwh", "now; -1 where not described"),
    ("co2_g_per_kwh", "now; -1 where not described"),
    ("power_w_idle", "watts when idle"),
    ("power_w_max", "watts at full load"),
)
"""Name → meaning, in the order of the columns."""


def feature_table(component: Component, nodes: NodeTable, view: View) -> NDArray[np.float32]:
    """Shape `(len(nodes), len(FEATURES))`."""
    request = view.request
    columns: list[NDArray[Any]] = [
        (nodes.cpu_millis_free - request.cpu_millis) * nodes.per_cpu_milli,
        (nodes.memory_bytes_free - request.memory_bytes) * nodes.per_memory_byte,
        request.cpu_millis * nodes.per_cpu_milli,
        request.memory_bytes * nodes.per_memory_byte,
        nodes.replicas,
        nodes.siblings,
        *(nodes.layer_code == code for code in range(len(nodes.layers))),
        _rtt_s(component, nodes, view),
        nodes.price_per_h,
        np.nan_to_num(nodes.energy_price_per_kwh, nan=-1.0),
        np.nan_to_num(nodes.co2_g_per_kwh, nan=-1.0),
        nodes.power_w_idle,
        nodes.power_w_max,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _rtt_s(component: Component, nodes: NodeTable, view: View) -> FloatArray:
    distances = distances_s(component, nodes, view)
    if not distances:
        return np.zeros(len(nodes))
    mean: FloatArray = np.mean(distances, axis=0)
    return np.nan_to_num(mean, nan=-1.0)
