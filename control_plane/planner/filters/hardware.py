"""Devices that a node must have: accelerators, which replicas occupy, and sensors, which they share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ....descriptions.kinds.application import SensorRequest
from ....descriptions.units import BYTES
from ....policies.node_table import BoolArray
from ....policies.view import Device
from ..constraint import Constraint, Constraints, Question
from ..devices import enough, shortage
from ..explanation import Failure


@dataclass(frozen=True)
class Accelerators(Constraint):
    """Enough free accelerators for all of the component's requests at once."""

    name = "accelerators"

    def mask(self, question: Question) -> BoolArray:
        ledger = question.table.ledger
        return enough(ledger.accelerators, ledger.wants(question.request))

    def failure(self, question: Question, row: int) -> Failure | None:
        ledger = question.table.ledger
        short = shortage(ledger.accelerators[:, row].tolist(), ledger.wants(question.request))
        if short is None:
            return None
        kinds, wanted, free = short
        asked = " and ".join(
            _shown(one.type, one.model, one.memory, one.count) for one in question.request.accelerators
        )
        has = [
            device for device in question.table.nodes.facts[row].accelerators if self._is_of(question, device, kinds)
        ]
        reason = f"needs {asked}; {free} of {sum(device.count for device in has)} suitable ones are free"
        return Failure(self.name, reason, f"free or add {wanted - free} more" if has else "add one of this kind")

    @staticmethod
    def _is_of(question: Question, device: Device, kinds: tuple[int, ...]) -> bool:
        known = question.table.ledger.kinds
        return any(
            (device.type, device.model, device.memory_bytes) == (kind.type, kind.model, kind.memory_bytes)
            for kind in (known[at] for at in kinds)
        )


@dataclass(frozen=True)
class Sensors(Constraint):
    """The node has the sensor, as often as asked for."""

    name: str
    type: str
    model: str | None
    count: int

    @property
    def key(self) -> Hashable:
        return ("sensors", self.type, self.model, self.count)

    def mask(self, question: Question) -> BoolArray:
        facts = question.table.nodes.facts
        return np.array([self._has(one.sensors) >= self.count for one in facts], dtype=np.bool_)

    def failure(self, question: Question, row: int) -> Failure | None:
        has = self._has(question.table.nodes.facts[row].sensors)
        if has >= self.count:
            return None
        wanted = _shown(self.type, self.model, 0, self.count)
        return Failure(self.name, f"needs {wanted}, has {has}", f"attach and describe {wanted}")

    def _has(self, sensors: tuple[Device, ...]) -> int:
        return sum(one.count for one in sensors if one.type == self.type and self.model in (None, one.model))


def hardware(question: Question, into: Constraints) -> None:
    """What the component asks for."""
    if question.request.accelerators:
        into.narrowing.append(Accelerators())
    for sensor in question.component.sensors:
        into.static.append(_sensors(sensor))


def _sensors(sensor: SensorRequest) -> Sensors:
    return Sensors(f"sensors {sensor.type}", sensor.type, sensor.model, sensor.count)


def _shown(kind: str, model: str | None, memory: int, count: int) -> str:
    size = f" with {BYTES.format(memory)}" if memory else ""
    return f"{count} {kind}{f' {model}' if model else ''}{size}"
