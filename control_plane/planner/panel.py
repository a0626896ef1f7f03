"""Who decides for an application: its policies, without the fenced and the broken, and the built-in where one is
missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...descriptions.kinds import Application
from .decider import Decider
from .policies import BUILT_IN, Policies, Seat
from .record import PolicyRecord
from .snapshot import PolicyFault, Snapshot


@dataclass
class Panel:
    """The policies that decide for one application, and what records say of all that should have."""

    deciders: list[Decider] = field(default_factory=list)
    records: list[PolicyRecord] = field(default_factory=list)

    @property
    def has_built_in(self) -> bool:
        """Whether the built-in is among them."""
        return any(decider.name == BUILT_IN for decider in self.deciders)


class Panels:
    """Panels by application for one round, with the faults that occurred in it."""

    def __init__(self, snapshot: Snapshot, policies: Policies, broken: Mapping[str, str]) -> None:
        self.faults: dict[tuple[str, str], PolicyFault] = {}
        """By policy and message: the same thing is told once a round."""
        self._snapshot = snapshot
        self._policies = policies
        self._broken = broken
        self._known: dict[str, Panel] = {}

    def of(self, application: Application, broken: Mapping[str, str]) -> Panel:
        """The panel of an application, without the policies in `broken`."""
        name = application.metadata.name
        if broken:
            return self._seated(self._policies.seats(self._snapshot, application), {**self._broken, **broken})
        panel = self._known.get(name)
        if panel is None:
            seats = self._policies.seats(self._snapshot, application)
            panel = self._known[name] = self._seated(seats, self._broken)
        return panel

    def strike(self, policy: str, message: str) -> None:
        """Count a fault; a fenced policy is not asked again."""
        fault = self._policies.fence.strike(policy, message)
        self.faults[policy, message] = fault
        if fault.fenced:
            self._known.clear()

    def good(self, panel: Panel) -> None:
        """Count a good answer of each policy."""
        if self._policies.fence.is_clean:
            return
        for decider in panel.deciders:
            self._policies.fence.good(decider.name)

    def _seated(self, seats: Sequence[Seat], broken: Mapping[str, str]) -> Panel:
        panel = Panel()
        missing = 0.0
        for seat in seats:
            fault = broken.get(seat.use.use, seat.fault)
            if fault or seat.decider is None:
                missing += seat.use.weight
                panel.records.append(PolicyRecord(seat.use.use, "", seat.use.weight, "{}", fault))
                self._tell(seat.use.use, fault)
            elif seat.decider.is_placing:
                panel.deciders.append(seat.decider)
                panel.records.append(_record(seat.decider))
        is_scored = any(decider.is_scoring for decider in panel.deciders)
        if (missing or not is_scored) and not panel.has_built_in:
            substitute = self._policies.substitute(missing or 1.0)
            panel.deciders.append(substitute)
            panel.records.append(_record(substitute))
        return panel

    def _tell(self, policy: str, message: str) -> None:
        self.faults.setdefault((policy, message), self._policies.fence.note(policy, message))


def _record(decider: Decider) -> PolicyRecord:
    return PolicyRecord(decider.name, decider.version, decider.weight, decider.options)
