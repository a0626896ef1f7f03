"""What one replica of a component takes from its node, in whole steps: millicores, bytes, accelerators."""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.kinds.application import AcceleratorRequest, Component
from ..descriptions.kinds.model import Model


@dataclass(frozen=True)
class Request:
    """Resources of one replica; integers, so that sums and differences are exact in any order."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    accelerators: tuple[AcceleratorRequest, ...] = ()


def request_of(component: Component, model: Model | None) -> Request:
    """Read the component's resources; a model's own memory counts where the component gives none."""
    resources = component.resources
    memory_bytes = resources.memory
    if not memory_bytes and model is not None:
        memory_bytes = model.spec.memory or 0
    return Request(millis_of(resources.cpu), memory_bytes, resources.disk, component.accelerators)


def millis_of(cores: float) -> int:
    """Thousandths of a core; descriptions hold no finer steps (`units.CORES`)."""
    return round(cores * 1000)
