"""The simulated runners of one machine: replicas take time to start, may crash, and outlive the agent.

Answers as `mechanisms/runner.py` asks: start and stop return at once, `observe` tells what is there. It also holds the
guard of single instances, which stops them when the lease is over even if the agent is dead or frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..agents.replica import mechanism_of
from ..descriptions.messages.desired import InferenceTask, ReplicaSpec
from ..mechanisms.runner import Observation, RunPhase
from .clock import Clock
from .kernel import Kernel
from .observed import EndCause, Fact, InstanceBegan, InstanceEnded, InstanceReady
from .scenario import ReplicaOptions

STOP_S = (0.2, 2.0)
"""A replica that is asked to stop takes this long, or its drain time if that is shorter."""
GUARD_SLACK_S = 1e-6

Key = tuple[str, str]
"""Replica id and run digest."""


@dataclass
class Instance:
    """One process of a replica."""

    spec: ReplicaSpec
    digest: str
    phase: RunPhase
    number: int
    """Tells the deadlines of this process from those of an earlier one."""
    message: str = ""
    exit_ok: bool = False

    @property
    def component(self) -> str:
        """`application.component`."""
        return f"{self.spec.application}.{self.spec.component}"

    @property
    def is_alive(self) -> bool:
        """True while the process exists."""
        return self.phase not in ("failed", "exited")


@dataclass(frozen=True)
class PhaseDue:
    """A process comes to its next phase."""

    key: Key
    number: int
    phase: RunPhase
    cause: EndCause = "stopped"


@dataclass(frozen=True)
class GuardDue:
    """The lease of single instances may be over."""

    until_s: float


class Runtime:
    """All instances of one machine. `changed` is called when something is worth another look by the agent."""

    def __init__(
        self, name: str, kernel: Kernel, clock: Clock, options: ReplicaOptions, note: Callable[[Fact], None]
    ) -> None:
        self.name = name
        self._kernel = kernel
        self._clock = clock
        self._options = options
        self._note = note
        self._instances: dict[Key, Instance] = {}
        self._models: set[str] = set()
        self._count = 0
        self.guard_until_s = 0.0
        """Single instances are stopped then; 0 after a boot."""
        self.changed: Callable[[str], None] = lambda mechanism: None

    # What an agent asks for.

    def start(self, spec: ReplicaSpec, digest: str) -> Observation:
        """Begin to run; what runs already is left alone."""
        key = (spec.id, digest)
        instance = self._instances.get(key)
        if instance is None or not instance.is_alive:
            self._count += 1
            options, random = self._options, self._kernel.random
            instance = self._instances[key] = Instance(spec, digest, "starting", self._count)
            start_s = options.start_min_s + (options.start_max_s - options.start_min_s) * random.random()
            task = spec.task
            if isinstance(task, InferenceTask) and task.model not in self._models:
                instance.phase = "fetching"
                start_s += options.fetch_s
            self._tell(InstanceBegan, instance)
            self._kernel.after(start_s, self, PhaseDue(key, instance.number, "ready"))
        return _observed(instance)

    def stop(self, replica: str, digest: str, drain_s: float) -> None:
        """Begin to stop; an ended instance is forgotten at once."""
        instance = self._instances.get((replica, digest))
        if instance is None:
            return
        if not instance.is_alive:
            del self._instances[replica, digest]
            self._change(instance)
            return
        low_s, high_s = STOP_S
        stop_s = min(low_s + (high_s - low_s) * self._kernel.random.random(), max(drain_s, low_s))
        instance.phase = "stopping"
        self._kernel.after(stop_s, self, PhaseDue((replica, digest), instance.number, "exited"))

    def observe(self, mechanism: str) -> tuple[Observation, ...]:
        """Every instance of one runner."""
        mine = (one for one in self._instances.values() if mechanism_of(one.spec) == mechanism)
        return tuple(_observed(one) for one in mine)

    def guard(self, until_s: float) -> None:
        """Single instances may run until then, on the machine's monotonic clock."""
        self.guard_until_s = until_s
        self._kernel.at(self._clock.true_s(until_s), self, GuardDue(until_s))

    def clock_changed(self) -> None:
        """The monotonic clock runs at another rate: the guard's deadline is elsewhere on the agenda."""
        self.guard(self.guard_until_s)

    # What the world sees and does.

    def serving(self, component: str) -> int:
        """Instances of a component that are ready now."""
        return sum(one.phase == "ready" and one.component == component for one in self._instances.values())

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All that there are, ended ones included."""
        return tuple(self._instances.values())

    def crash_one(self) -> bool:
        """One process dies by the seed; False when none is ready."""
        ready = [key for key, one in self._instances.items() if one.phase == "ready"]
        if not ready:
            return False
        instance = self._instances[self._kernel.random.choice(ready)]
        self._end(instance, "crashed", "killed by signal 11")
        return True

    def power_lost(self) -> None:
        """Everything is gone; models on disk stay."""
        for instance in self._instances.values():
            if instance.is_alive:
                self._tell(InstanceEnded, instance, "power")
        self._instances.clear()
        self.guard_until_s = 0.0

    def handle(self, event: object) -> None:
        """Take a deadline."""
        match event:
            case PhaseDue():
                self._advance(event)
            case GuardDue(until_s=until_s) if until_s == self.guard_until_s:
                self._check_guard(until_s)
            case _:
                pass

    def _advance(self, event: PhaseDue) -> None:
        instance = self._instances.get(event.key)
        if instance is None or instance.number != event.number or not instance.is_alive:
            return
        if event.phase == "exited":
            if event.cause == "crashed" and instance.phase == "ready":
                self._end(instance, "crashed", "killed by signal 11")
            elif event.cause == "stopped":
                self._end(instance, event.cause, "")
                del self._instances[event.key]
        elif instance.phase in ("fetching", "starting"):
            instance.phase = "ready"
            if isinstance(instance.spec.task, InferenceTask):
                self._models.add(instance.spec.task.model)
            self._tell(InstanceReady, instance)
            self._change(instance)
            if self._options.crashes_per_hour:
                crash_s = self._kernel.random.expovariate(self._options.crashes_per_hour / 3600)
                self._kernel.after(crash_s, self, PhaseDue(event.key, event.number, "exited", "crashed"))

    def _check_guard(self, until_s: float) -> None:
        if self._clock.monotonic_s(self._kernel.now_s) + GUARD_SLACK_S < until_s:
            return  # the clock has changed its rate; `clock_changed` put the right deadline on the agenda
        for key, instance in sorted(self._instances.items()):
            if instance.is_alive and instance.spec.single_instance:
                self._end(instance, "guard", "its lease is over")
                del self._instances[key]

    def _end(self, instance: Instance, cause: EndCause, message: str) -> None:
        instance.phase, instance.message, instance.exit_ok = "exited", message, cause == "stopped"
        self._tell(InstanceEnded, instance, cause)
        self._change(instance)

    def _change(self, instance: Instance) -> None:
        self.changed(mechanism_of(instance.spec))

    def _tell(self, fact: type[InstanceBegan], instance: Instance, *more: EndCause) -> None:
        spec = instance.spec
        self._note(fact(self.name, spec.id, instance.digest, instance.component, spec.single_instance, *more))


def _observed(instance: Instance) -> Observation:
    spec = instance.spec
    return Observation(
        spec.id, instance.digest, spec.revision, instance.phase, instance.message, exit_ok=instance.exit_ok
    )
