"""An adaptation policy: cameras on hot nodes take fewer pictures until the node has cooled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from shoal.descriptions.kinds.application import Application
from shoal.policies.actions import Assessment, Set
from shoal.policies.policy import Policy
from shoal.policies.reading import MetricUse
from shoal.policies.view import View


@dataclass(frozen=True)
class CoolCamera(Policy):
    """Slow cameras down where it gets hot; let them go again when it has cooled."""

    metrics = (MetricUse("hw.temperature", "mean", window_s=30.0, interval_s=5.0),)
    celsius_hot: float = 75.0
    celsius_cool: float = 65.0
    fps_hot: int = 10
    fps_cool: int = 30

    def analyze(self, application: Application, view: View) -> Sequence[Assessment]:
        """One finding for each node whose camera should go at another rate."""
        return tuple(self._found(application, view))

    def plan(self, assessment: Assessment, view: View) -> Sequence[Set]:
        """The rate that `analyze` found to be right."""
        fps = int(assessment.target or self.fps_cool)
        return [Set("frame-rate", "setFrameRate", assessment.node, "", {"fps": fps}, assessment.application,
                    assessment.component, assessment.reason)]  # fmt: skip

    def _found(self, application: Application, view: View) -> Iterator[Assessment]:
        name = application.metadata.name
        for component in application.spec.components:
            for replica in view.replicas_of(component.name):
                reading, now = view.reading("hw.temperature", node=replica.node), _fps(view, replica.node)
                if reading is None or now is None or self.celsius_cool < reading.value < self.celsius_hot:
                    continue  # not measured, no such knob there, or within the band that keeps it from flapping
                wanted = self.fps_hot if reading.value >= self.celsius_hot else self.fps_cool
                if wanted != now:
                    told = f"{replica.node} has {reading.value:.0f} °C: {wanted} pictures a second in place of {now}"
                    yield Assessment(name, component.name, told, replica.id, replica.node, "fps", now, wanted)


def _fps(view: View, node: str) -> int | None:
    for offer in view.mechanisms(node):
        if offer.name == "frame-rate" and offer.options.verbs:
            return msgspec.json.decode(offer.status.targets[0].values["fps"], type=int)
    return None
