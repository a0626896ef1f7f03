"""The agent's core: the latest desired document and what runners observe, to what must start, stop and be set. Pure.

`handle(event, now_s)` has no await, clock, socket or file; `agents/run.py` and `sim/` carry its effects out. It acts on
the difference of desired and observed, never on a replay of changes: the same state gives the same effects, whichever
way led to it. `now_s` is CLOCK_BOOTTIME; randomness (jitter of backoffs) comes from `rng`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import assert_never

from ..descriptions.messages.desired import Desired, DesiredSpec, Settings
from ..descriptions.messages.reported import ReplicaReport
from ..mechanisms.runner import Observation
from .failures import Failures
from .mark import Mark
from .reconcile_events import (
    DesiredReceived,
    DrainRequested,
    Effect,
    Event,
    FenceSeen,
    FetchDesired,
    FetchFailed,
    LeaseChanged,
    Observed,
    PromoteDesired,
    RaiseEvent,
    Refuse,
    ReportChanged,
    SaveDesired,
    SaveMark,
    SettingFinished,
    SettingsRemembered,
    StartFinished,
    StartReplica,
    StopReplica,
    UseSettings,
    WakeAt,
    WatchModels,
    Woken,
)
from .replica import Allowed, Replica, Start
from .settings import SettingsInForce

PROMOTE_S = 60.0
"""A document becomes the last known good when all its replicas were ready for this long."""
REPLICAS_MAX = 1000


class Reconciler:
    """State of one node; everything it needs from outside comes with an event."""

    def __init__(self, node: str, slice_name: str, mechanisms: frozenset[str], mark: Mark, rng: Random) -> None:
        """`mechanisms` are the names of enabled runners, `mark` what was durable when the agent last ran."""
        self.node = node
        self.slice = slice_name
        self.mark = mark
        self._rng = rng
        self._mechanisms = mechanisms
        self._observed: set[str] = set()
        self._replicas: dict[str, Replica] = {}
        self._settings = SettingsInForce(rng)
        self._lease_held = False
        self._draining = False
        self.desired: Desired | None = None
        """The document in force."""
        self._fetching: Desired | None = None
        self._fetch_failures = Failures(rng)
        self._is_fetch_under_way = False
        self._healthy_since_s: float | None = None
        self._is_promoted = True
        self._used: Settings | None = None
        self._models: tuple[str, ...] = ()
        self._told: tuple[object, ...] = ()
        self._reports: tuple[ReplicaReport, ...] = ()
        self._wake_s: float | None = None

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """What follows from the event, in the order in which it must be done."""
        effects: list[Effect] = []
        match event:
            case DesiredReceived():
                effects += self._receive(event)
            case FetchFailed():
                if event.desired == self._fetching:
                    self._is_fetch_under_way = False
                    self._fetch_failures.add(now_s, event.error, 0.0)
            case Observed():
                self._observe(event, now_s)
            case StartFinished():
                self._replica(event.replica).start_finished(event, now_s)
            case SettingFinished():
                effects += self._finish_setting(event, now_s)
            case FenceSeen():
                effects += self._see_fence(event)
            case _:
                self._note(event)
        effects += self._converge(event.id, now_s)
        return effects

    def _note(self, event: SettingsRemembered | LeaseChanged | DrainRequested | Woken) -> None:
        match event:
            case SettingsRemembered():
                self._settings.remember(event.keys)
            case LeaseChanged():
                self._lease_held = event.held
            case DrainRequested():
                self._draining = event.wanted
            case Woken():
                self._wake_s = None
            case _:
                assert_never(event)

    def reports(self) -> tuple[ReplicaReport, ...]:
        """Every replica as it is, sorted by id; nothing as long as no document says what is wanted."""
        if self.desired is None:
            return ()
        allowed = self._allowed()
        found = (self._replicas[name].report(allowed) for name in sorted(self._replicas))
        return tuple(report for report in found if report is not None)

    def problems(self) -> tuple[str, ...]:
        """Settings that could not be applied or undone."""
        return self._settings.problems()

    @property
    def seen(self) -> tuple[int, int]:
        """(epoch, generation) of a newer document than the one in force, seen and then lost; zeros when none was."""
        order = (self.desired.epoch, self.desired.generation) if self.desired else (0, 0)
        return self.mark.order if self.mark.order > order else (0, 0)

    @property
    def is_idle(self) -> bool:
        """Nothing runs: a drain is complete."""
        return not any(replica.instances for replica in self._replicas.values())

    def _receive(self, event: DesiredReceived) -> Iterator[Effect]:
        refusal = self._refusal(event)
        if refusal:
            yield Refuse(event.id, refusal)
            return
        desired = event.desired
        if self._is_in_force(desired):
            yield from self._see_fence(FenceSeen(event.id, desired.fence))
            return
        if desired.spec is None:
            if self._fetching != desired:
                self._fetching, self._is_fetch_under_way = desired, False
                self._fetch_failures = Failures(self._rng)
            return
        if not event.from_disk:
            self.mark = self.mark.after(desired)
            yield SaveMark(event.id, self.mark)
            yield SaveDesired(event.id, event.sealed, desired.digest)
            told = f"epoch {desired.epoch}, generation {desired.generation}"
            yield RaiseEvent(event.id, "Node", "DesiredApplied", told)
        self._accept(desired, desired.spec)

    def _refusal(self, event: DesiredReceived) -> str:
        desired = event.desired
        if (desired.node, desired.slice) != (self.node, self.slice):
            return f"meant for node {desired.node!r} of slice {desired.slice!r}"
        if event.from_disk:
            return "" if self.desired is None and desired.spec is not None else "there is a newer document already"
        if desired.spec is not None and len(desired.spec.replicas) > REPLICAS_MAX:
            return f"{len(desired.spec.replicas)} replicas, over the limit of {REPLICAS_MAX}"
        if desired.spec is not None and len({one.id for one in desired.spec.replicas}) < len(desired.spec.replicas):
            return "two replicas have one id"
        return self.mark.refusal(desired)

    def _is_in_force(self, desired: Desired) -> bool:
        now = self.desired
        return now is not None and (now.epoch, now.generation, now.digest) == (
            desired.epoch, desired.generation, desired.digest
        )  # fmt: skip

    def _accept(self, desired: Desired, spec: DesiredSpec) -> None:
        self.desired = desired
        self._fetching, self._is_fetch_under_way = None, False
        self._healthy_since_s, self._is_promoted = None, False
        wanted = {replica.id: replica for replica in spec.replicas}
        for name in self._replicas.keys() | wanted.keys():
            self._replica(name).want(wanted.get(name))
        self._settings.want(spec.mechanisms)

    def _replica(self, name: str) -> Replica:
        return self._replicas.setdefault(name, Replica(name, self._rng))

    def _observe(self, event: Observed, now_s: float) -> None:
        self._observed.add(event.mechanism)
        found: dict[str, dict[str, Observation]] = {}
        for one in event.observations:
            found.setdefault(one.replica, {})[one.digest] = one
        for name in sorted(self._replicas.keys() | found.keys()):
            self._replica(name).observe(event.mechanism, found.get(name, {}), now_s)

    def _finish_setting(self, event: SettingFinished, now_s: float) -> Iterator[Effect]:
        self._settings.finished(event, now_s)
        key = event.key
        told = f"{key.mechanism} {key.verb} {key.target}".strip()
        if event.outcome != "done":
            yield RaiseEvent(event.id, "Setting", "SettingFailed", f"{told}: {event.message}", severity="warning")
        else:
            yield RaiseEvent(event.id, "Setting", "SettingUndone" if event.undone else "SettingApplied", told)

    def _see_fence(self, event: FenceSeen) -> Iterator[Effect]:
        if event.fence > self.mark.fence:
            self.mark = self.mark.with_fence(event.fence)
            yield SaveMark(event.id, self.mark)

    def _allowed(self) -> Allowed:
        # A last known good that is older than what this node has seen once (its slot was damaged) may name a single
        # instance that runs elsewhere by now: a lease is no leave to start that one.
        is_behind = self.seen > (0, 0) and self.desired is not None and self.desired.digest != self.mark.digest
        lease_held = self._lease_held and not is_behind
        return Allowed(lease_held, self._draining, self._mechanisms, frozenset(self._observed))

    def _converge(self, cause: str, now_s: float) -> Iterator[Effect]:
        if self._fetching is not None and not self._is_fetch_under_way and now_s >= self._fetch_failures.not_before_s:
            self._is_fetch_under_way = True
            yield FetchDesired(cause, self._fetching)
        # Without a document, what runs from before goes on until somebody says what is wanted.
        if self.desired is not None and self.desired.spec is not None:
            yield from self._converge_to(self.desired, self.desired.spec, cause, now_s)
        yield from self._wake(cause, now_s)

    def _converge_to(self, desired: Desired, spec: DesiredSpec, cause: str, now_s: float) -> Iterator[Effect]:
        yield from self._use(spec, cause)
        yield from self._settings.converge(cause, now_s)
        allowed = self._allowed()
        for name in sorted(self._replicas):
            replica = self._replicas[name]
            for action in replica.converge(allowed, now_s):
                if isinstance(action, Start):
                    yield StartReplica(cause, action.mechanism, action.spec, action.digest)
                else:
                    yield StopReplica(cause, action.mechanism, name, action.digest, action.drain_s)
            if replica.is_gone:
                del self._replicas[name]
        yield from self._tell(desired, cause)
        yield from self._promote(desired, spec, cause, now_s)

    def _use(self, spec: DesiredSpec, cause: str) -> Iterator[Effect]:
        if spec.settings != self._used:
            self._used = spec.settings
            yield UseSettings(cause, spec.settings)
        models = tuple(sorted({model for replica in spec.replicas for model in replica.interacts}))
        if models != self._models:
            self._models = models
            yield WatchModels(cause, models)

    def _tell(self, desired: Desired, cause: str) -> Iterator[Effect]:
        before, self._reports = {report.id: report for report in self._reports}, self.reports()
        after = {report.id: report for report in self._reports}
        told = (desired.epoch, desired.generation, desired.digest, self._reports, self.problems())
        if told != self._told:
            self._told = told
            yield ReportChanged(cause)
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name), after.get(name)
            if new is None:
                yield RaiseEvent(cause, "Replica", "ReplicaStopped", "", name)
            elif new.phase == "ready" and (old is None or (old.phase, old.revision) != ("ready", new.revision)):
                yield RaiseEvent(cause, "Replica", "ReplicaReady", f"revision {new.revision}", name)
            elif new.phase == "failed" and (old is None or old.phase != "failed"):
                yield RaiseEvent(cause, "Replica", "ReplicaFailed", new.message, name, "error")

    def _promote(self, desired: Desired, spec: DesiredSpec, cause: str, now_s: float) -> Iterator[Effect]:
        wanted = {replica.id: replica.revision for replica in spec.replicas if not replica.draining}
        ready = {report.id: report.revision for report in self._reports if report.phase == "ready"}
        if not wanted.items() <= ready.items():
            self._healthy_since_s = None
        elif self._healthy_since_s is None:
            self._healthy_since_s = now_s
        elif not self._is_promoted and now_s >= self._healthy_since_s + PROMOTE_S:
            self._is_promoted = True
            yield PromoteDesired(cause, desired.digest)

    def _wake(self, cause: str, now_s: float) -> Iterator[Effect]:
        allowed = self._allowed()
        times = [replica.wake_s(allowed, now_s) for replica in self._replicas.values()]
        times.append(self._settings.wake_s(now_s))
        if self._fetching is not None and not self._is_fetch_under_way:
            times.append(self._fetch_failures.not_before_s)
        if self._healthy_since_s is not None and not self._is_promoted:
            times.append(self._healthy_since_s + PROMOTE_S)
        wake_s = min((time_s for time_s in times if time_s is not None), default=None)
        if wake_s is not None and wake_s != self._wake_s:
            self._wake_s = wake_s
            yield WakeAt(cause, wake_s)
