"""One replica's life as a pure core: events in, effects out, no clock, no process.

`serving.py` drives it. A replica has one *incarnation* of its specification serving, and at most one newer one on
its way (`update`); an incarnation is one start of one worker, and its number is never used again.

    loading ──WorkerReady──> ready ──WorkerDied──> loading (again at once, then after 1, 2, 4 … s)
       └──LoadFailed──> broken <──the fifth death in ten minutes──┘        any ──DeleteAsked──> stopped
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ....descriptions.messages.gateway import ServingPhase, ServingSpec

DEATHS_MAX = 5
DEATHS_WINDOW_S = 600.0


@dataclass(frozen=True)
class SpecPut:
    """The agent wants this served; said again of something broken, it is tried again (the agent paces that)."""

    spec: ServingSpec


@dataclass(frozen=True)
class WorkerReady:
    """A worker answered LOAD with READY."""

    incarnation: int
    device: str
    reason: str = ""


@dataclass(frozen=True)
class LoadFailed:
    """A worker answered LOAD with ERROR, took too long, or could not be started."""

    incarnation: int
    reason: str


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended that nobody asked to."""

    incarnation: int
    reason: str


@dataclass(frozen=True)
class WorkerGone:
    """A worker that was asked to end has ended."""

    incarnation: int


@dataclass(frozen=True)
class RestartDue:
    """The time of `WakeAt` has come."""

    incarnation: int


@dataclass(frozen=True)
class DeleteAsked:
    """The agent wants it gone."""

    drain_s: float


Event = SpecPut | WorkerReady | LoadFailed | WorkerDied | WorkerGone | RestartDue | DeleteAsked


@dataclass(frozen=True)
class StartWorker:
    """Fork a worker and have it load."""

    incarnation: int
    spec: ServingSpec


@dataclass(frozen=True)
class Switch:
    """From now on new requests go to this worker."""

    incarnation: int


@dataclass(frozen=True)
class Retire:
    """Give this worker no new requests, let it finish for `drain_s`, then end it."""

    incarnation: int
    drain_s: float


@dataclass(frozen=True)
class Kill:
    """End this worker now."""

    incarnation: int


@dataclass(frozen=True)
class WakeAt:
    """Send `RestartDue` at this time."""

    incarnation: int
    at_s: float


@dataclass(frozen=True)
class Forget:
    """Nothing is left of the replica."""


Effect = StartWorker | Switch | Retire | Kill | WakeAt | Forget


@dataclass
class Incarnation:
    """One start of a worker."""

    number: int
    spec: ServingSpec
    phase: ServingPhase = "loading"
    reason: str = ""
    device: str = ""
    has_worker: bool = True


@dataclass
class ReplicaCore:
    """State of one replica. `numbers` gives incarnation numbers that are unique in the gateway."""

    numbers: list[int]
    """One counter shared by all replicas, in a list so that it is shared."""
    swap_drain_s: float = 30.0
    """How long a replaced worker may finish what it holds."""
    serving: Incarnation | None = None
    update: Incarnation | None = None
    retired: set[int] = field(default_factory=set)
    """Workers that were told to end and have not yet."""
    deaths_s: list[float] = field(default_factory=list)
    restarts: int = 0
    is_deleted: bool = False
    was_ready: bool = False
    """The current specification has served before, so its load is not in doubt."""

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Take one event; the effects are to be carried out in this order."""
        match event:
            case SpecPut():
                return self._put(event)
            case WorkerReady():
                return self._ready(event)
            case LoadFailed():
                return self._failed(event, now_s)
            case WorkerDied():
                return self._died(event, now_s)
            case WorkerGone():
                self.retired.discard(event.incarnation)
                return self._forget_if_empty()
            case RestartDue():
                return self._restart(event)
            case DeleteAsked():
                return self._delete(event)

    @property
    def phase(self) -> ServingPhase:
        """What a report says."""
        return "stopped" if self.is_deleted or self.serving is None else self.serving.phase

    def _put(self, event: SpecPut) -> list[Effect]:
        assert not self.is_deleted
        newest = self.update or self.serving
        if newest is not None and newest.spec == event.spec and newest.phase != "broken":
            return []
        effects = self._drop_update()
        if self.serving is not None and self.serving.phase == "ready":
            if self.serving.spec == event.spec:
                return effects
            self.update = self._new(event.spec)
            return [*effects, StartWorker(self.update.number, event.spec)]
        effects += self._drop_serving()
        self.deaths_s, self.was_ready = [], False
        self.serving = self._new(event.spec)
        return [*effects, StartWorker(self.serving.number, event.spec)]

    def _ready(self, event: WorkerReady) -> list[Effect]:
        if event.incarnation in self.retired:
            return []  # it was told to end before it was ready
        if self.update is not None and self.update.number == event.incarnation:
            old, self.serving, self.update = self.serving, self.update, None
            self.deaths_s = []
        elif self.serving is not None and self.serving.number == event.incarnation:
            old = None
        else:
            return []
        assert self.serving is not None
        self.serving.phase, self.serving.device, self.serving.reason = "ready", event.device, event.reason
        self.was_ready = True
        effects: list[Effect] = [Switch(event.incarnation)]
        if old is not None and old.has_worker:
            self.retired.add(old.number)
            effects.append(Retire(old.number, self.swap_drain_s))
        return effects

    def _failed(self, event: LoadFailed, now_s: float) -> list[Effect]:
        if event.incarnation in self.retired:
            return []
        effects: list[Effect] = []
        if self.update is not None and self.update.number == event.incarnation:
            _break(self.update, event.reason)
        elif self.serving is None or self.serving.number != event.incarnation:
            return []
        elif self.was_ready:  # it loaded before: the world is to blame, not the model
            effects = self._count_death(self.serving, event.reason, now_s)
        else:
            _break(self.serving, event.reason)
        self.retired.add(event.incarnation)
        return [Kill(event.incarnation), *effects]

    def _died(self, event: WorkerDied, now_s: float) -> list[Effect]:
        if event.incarnation in self.retired:
            self.retired.discard(event.incarnation)
            return self._forget_if_empty()
        if self.update is not None and self.update.number == event.incarnation:
            _break(self.update, f"the worker died while loading: {event.reason}")
            return []
        if self.serving is None or self.serving.number != event.incarnation:
            return []
        return self._count_death(self.serving, event.reason, now_s)

    def _count_death(self, dead: Incarnation, reason: str, now_s: float) -> list[Effect]:
        """Have it started again after a while, unless it dies too often."""
        self.deaths_s = [*(at_s for at_s in self.deaths_s if at_s > now_s - DEATHS_WINDOW_S), now_s]
        if len(self.deaths_s) >= DEATHS_MAX:
            _break(dead, f"{DEATHS_MAX} deaths in {DEATHS_WINDOW_S / 60:.0f} minutes; the last: {reason}")
            return []
        dead.phase, dead.has_worker = "loading", False
        dead.reason = f"starting again, the worker died: {reason}"
        return [WakeAt(dead.number, now_s + restart_delay_s(len(self.deaths_s)))]

    def _restart(self, event: RestartDue) -> list[Effect]:
        if self.is_deleted or self.serving is None or self.serving.number != event.incarnation:
            return []
        self.restarts += 1
        reason = self.serving.reason
        self.serving = self._new(self.serving.spec)
        self.serving.reason = reason
        return [StartWorker(self.serving.number, self.serving.spec)]

    def _delete(self, event: DeleteAsked) -> list[Effect]:
        if self.is_deleted:
            return []
        self.is_deleted = True
        effects = self._drop_update()
        if self.serving is not None and self.serving.has_worker:
            self.retired.add(self.serving.number)
            effects.append(Retire(self.serving.number, event.drain_s))
        if self.serving is not None:
            self.serving.phase = "stopped"
        return effects + self._forget_if_empty()

    def _new(self, spec: ServingSpec) -> Incarnation:
        self.numbers[0] += 1
        return Incarnation(self.numbers[0], spec)

    def _drop_update(self) -> list[Effect]:
        dropped, self.update = self.update, None
        return self._end(dropped)

    def _drop_serving(self) -> list[Effect]:
        dropped, self.serving = self.serving, None
        return self._end(dropped)

    def _end(self, dropped: Incarnation | None) -> list[Effect]:
        if dropped is None or not dropped.has_worker:
            return []
        self.retired.add(dropped.number)
        return [Kill(dropped.number)]

    def _forget_if_empty(self) -> list[Effect]:
        return [Forget()] if self.is_deleted and not self.retired else []


def _break(incarnation: Incarnation, reason: str) -> None:
    incarnation.phase, incarnation.reason, incarnation.has_worker = "broken", reason, False


def restart_delay_s(deaths: int) -> float:
    """0 after the first death, then 1, 2, 4 …"""
    return 0.0 if deaths <= 1 else float(2 ** (deaths - 2))
