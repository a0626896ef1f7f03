"""Runs Skippy, the scheduler of the edgerun project, over a fleet like ours: a figure to compare with, nothing else.

T. Rausch, A. Rashed, S. Dustdar, "Optimized container scheduling for data-intensive serverless edge computing", 2021.
Its default predicates and priorities score each node in Python, as Kubernetes' scheduler would in Go.
"""

from __future__ import annotations

import time
from typing import Any

IMAGE = "shoal/bench:latest"
IMAGE_BYTES = 100 * 1024 * 1024


def skippy_placements_per_s(nodes: int, pods: int) -> float | None:
    """Placements a second; None where Skippy is not installed."""
    try:
        from skippy.core.clustercontext import ClusterContext
        from skippy.core.scheduler import Scheduler
    except ImportError:
        return None
    scheduler = Scheduler(_context(ClusterContext, nodes))
    work = [_pod(at) for at in range(pods)]
    begin_s = time.perf_counter()
    placed = [scheduler.schedule(pod).suggested_host for pod in work]
    took_s = time.perf_counter() - begin_s
    assert None not in placed, "the bench is about placing"
    return pods / took_s


def _context(base: Any, nodes: int) -> Any:
    from skippy.core.model import Capacity, ImageState, Node
    from skippy.core.storage import StorageIndex

    hosts = [
        Node(
            f"node-{at:05d}",
            capacity=Capacity(8000, 16 * 1024**3),
            allocatable=Capacity(8000, 16 * 1024**3),
            labels={"beta.kubernetes.io/arch": "amd64", "locality.skippy.io/type": "edge"},
        )
        for at in range(nodes)
    ]

    class Context(base):  # type: ignore[misc]
        def get_init_image_states(self) -> Any:
            return {IMAGE: ImageState({"amd64": IMAGE_BYTES})}

        def get_bandwidth_graph(self) -> Any:
            return {"registry": {host.name: 12_500_000.0 for host in hosts}}

        def list_nodes(self) -> Any:
            return hosts

        def get_next_storage_node(self, node: Any) -> str:
            return "registry"

    context = Context()
    context.storage_index = StorageIndex()
    return context


def _pod(at: int) -> Any:
    from skippy.core.model import Container, Pod, PodSpec, ResourceRequirements

    wanted = ResourceRequirements({"cpu": 20 + at % 200, "memory": (16 + at % 200) * 1024**2})
    return Pod(f"pod-{at}", "default", PodSpec([Container(IMAGE, wanted)], {}))
