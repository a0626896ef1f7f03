"""Drives adaptation: looks at what is measured every few seconds, asks policies, hands actions to the core.

A look runs in the planner's thread over a snapshot; what it wants done comes back as events for the core, which checks
it again. The same task reloads changed policy files and tells nodes which metrics policies need more often. One of it
runs in each life of `driver.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from ..descriptions.errors import ShoalError
from .adaptation import Act, ActionCommitted, ActionRejected, Adaptation, AdaptationRecord, Explain, LookAt, Looked
from .adaptation import Effect as AdaptationEffect
from .adaptation import Event as AdaptationEvent
from .adaptation.wanted import wanted
from .effects import AnswerAction, Effect, Happening
from .inputs import MetricsWanted
from .planner.snapshot import PolicyFault
from .store.errors import StoreError
from .store.records import DecisionEntry

if TYPE_CHECKING:
    from .driver import Driver

LOOK_S_MIN = 0.1


@dataclass
class Adapting:
    """The looks of one life."""

    driver: Driver
    _adaptation: Adaptation = field(init=False)
    _soon: asyncio.Event = field(default_factory=asyncio.Event)
    _next_s: float = 0.0
    _answers: list[AnswerAction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._adaptation = Adaptation(self.driver.world.planning.better_node)
        self.driver.listeners.append(self._answered)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            interval_s = self.driver.core.rows.slice.spec.adaptation.interval
            now_s = self.driver.world.clock()
            wait_s = max(min(self._next_s - now_s, interval_s) if self._next_s else interval_s, LOOK_S_MIN)
            self._soon.clear()
            self._next_s = 0.0
            try:
                async with asyncio.timeout(wait_s):
                    await self._soon.wait()
            except TimeoutError:
                pass
            await self._pass()

    async def _pass(self) -> None:
        planning = self.driver.world.planning
        try:
            answers, self._answers = self._answers, []
            for answer in answers:
                await self._adapt(self._event_of(answer))
            self._tell(await planning.refresh())
            await self._look()
        except ShoalError as error:
            told = f"adaptation: {error}"
            self.driver.event_log.tell(Happening("AdaptationFailed", told, severity="warning"))

    async def _look(self) -> None:
        driver = self.driver
        snapshot = driver.snapshot()
        self._measure(await driver.world.planning.metrics(snapshot))
        wishes = await driver.world.planning.adapt(snapshot)
        self._tell(wishes.faults)
        components = (part for app in snapshot.applications for part in app.spec.components)
        if wishes.plans or any(part.scaling is not None or part.qos for part in components):
            await self._adapt(Looked(driver.new_id("look"), snapshot, wishes.plans, driver.core.scales()))

    async def _adapt(self, event: AdaptationEvent) -> None:
        now_s = self.driver.world.clock()
        effects = await self.driver.world.planning.ask(lambda: self._adaptation.handle(event, now_s))
        for effect in effects:
            await self._perform(effect)

    async def _perform(self, effect: AdaptationEffect) -> None:
        match effect:
            case Act():
                await self._keep(effect.record)
                self.driver.handle(wanted(effect))
            case Explain():
                await self._keep(effect.record)
            case LookAt(at_s=at_s):
                self._next_s = min(self._next_s or at_s, at_s)
            case _:
                pass  # a policy that came too late is asked at the next look anyway

    async def _keep(self, record: AdaptationRecord) -> None:
        """Beside the decisions of placement, so that people find all of them in one place."""
        entry = DecisionEntry(
            f"a-{record.id}",
            record.application,
            record.component,
            f"adaptation-{record.result}",
            msgspec.json.encode(record),
        )
        try:
            await self.driver.world.store.write(lambda tx: tx.append_decision(entry))
        except StoreError as error:
            told = f"a record of adaptation is lost: {error}"
            self.driver.event_log.tell(Happening("RecordLost", told, severity="warning"))

    def _answered(self, effect: Effect) -> None:
        if isinstance(effect, AnswerAction):
            self._answers.append(effect)
            self._soon.set()

    def _event_of(self, answer: AnswerAction) -> AdaptationEvent:
        event_id = self.driver.new_id("answer")
        if answer.reason:
            return ActionRejected(event_id, answer.id, answer.reason)
        return ActionCommitted(event_id, answer.id, self.driver.core.rows.version)

    def _measure(self, intervals: dict[str, float]) -> None:
        """Tell the core which metrics policies need, where that has changed."""
        if intervals != self.driver.core.rows.watched:
            wanted_now = tuple(sorted(intervals.items()))
            self.driver.handle(MetricsWanted(self.driver.new_id("metrics"), wanted_now))

    def _tell(self, faults: Iterable[PolicyFault]) -> None:
        for fault in faults:
            told = f"policy {fault.policy}: {fault.message}" + ("; fenced" if fault.fenced else "")
            self.driver.event_log.tell(Happening("PolicyFault", told, "Policy", fault.policy, "warning"))
