"""One replica on its way from wanted to ready and away again: pending → fetching → starting → ready → stopping. Pure.

`reconcile.py` keeps one `Replica` for each id and calls `converge` after every event; it answers with what to start and
stop now. A changed specification is made before the old one is broken: both instances exist until the new one is ready,
except where they would fight for a port or where only one may run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ..descriptions.messages.desired import InferenceTask, PluginTask, ProcessTask, ReplicaSpec
from ..descriptions.messages.reported import Phase, ReplicaReport
from ..mechanisms.runner import Observation, run_digest
from .failures import Failures
from .reconcile_events import StartFinished

STOP_AGAIN_S = 10.0
"""A runner that has not ended an instance this long after it should have is told again."""
DRAIN_S = 30.0
"""How long requests in flight may take when a replica is drained."""
STOP_S = 5.0
"""The same when it is simply gone from the document and says nothing itself."""

ALIVE = ("fetching", "starting", "ready", "notReady", "stopping")


@dataclass(frozen=True)
class Allowed:
    """What holds for all replicas of the node at this moment."""

    lease_held: bool
    draining: bool
    mechanisms: frozenset[str]
    """Enabled runners."""
    observed: frozenset[str]
    """Runners that have told what they run; nothing is started before."""


@dataclass(frozen=True)
class Start:
    """Begin to run the replica's specification."""

    mechanism: str
    spec: ReplicaSpec
    digest: str


@dataclass(frozen=True)
class Stop:
    """Begin to stop one instance."""

    mechanism: str
    digest: str
    drain_s: float


def mechanism_of(spec: ReplicaSpec) -> str:
    """The name of the runner that a task needs."""
    match spec.task:
        case InferenceTask():
            return "inference"
        case ProcessTask():
            return "process"
        case PluginTask():
            return spec.task.mechanism


class Replica:
    """What is wanted of one replica and what is known of its instances, by their run digests."""

    def __init__(self, replica_id: str, rng: Random) -> None:
        self.id = replica_id
        self._rng = rng
        self.spec: ReplicaSpec | None = None
        self.digest = ""
        self.mechanism = ""
        self._mechanisms: dict[str, str] = {}
        self._instances: dict[str, Observation] = {}
        self._stopping: dict[str, float] = {}
        """Digests told to stop, and when they are told again."""
        self._started: set[str] = set()
        """Digests whose `Start` is not answered yet."""
        self._since_s: dict[str, float] = {}
        """When each instance came into its present phase."""
        self._failures = Failures(rng)

    @property
    def is_gone(self) -> bool:
        """Neither wanted nor running: it can be forgotten."""
        return self.spec is None and not self._instances and not self._started

    @property
    def instances(self) -> tuple[Observation, ...]:
        """What is known to exist, ended instances included."""
        return tuple(self._instances[digest] for digest in sorted(self._instances))

    @property
    def _current(self) -> Observation | None:
        return self._instances.get(self.digest)

    def want(self, spec: ReplicaSpec | None) -> None:
        """Take over what the document says of it; None when it says nothing any more."""
        digest = run_digest(spec) if spec else ""
        if digest != self.digest:
            self._failures = Failures(self._rng)
        self.spec, self.digest = spec, digest
        self.mechanism = mechanism_of(spec) if spec else ""

    def start_finished(self, event: StartFinished, now_s: float) -> None:
        """Take over what came of a `Start`; what nobody waits for is no news."""
        if event.digest not in self._started:
            return
        self._started.discard(event.digest)
        if event.observation is not None:
            self._see(event.observation, now_s)
        elif event.digest == self.digest:
            self._failures.add(now_s, event.error, 0.0, refused=event.refused)

    def observe(self, mechanism: str, found: dict[str, Observation], now_s: float) -> None:
        """Take over what one runner has of it; what that runner no longer names has gone."""
        mine = {digest for digest in self._instances if self._mechanisms.get(digest) == mechanism}
        for digest in sorted(mine | found.keys()):
            if digest in self._started:
                continue  # this look may be older than the start; its own answer is on the way
            if digest in found:
                self._mechanisms[digest] = mechanism
                self._see(found[digest], now_s)
            else:
                self._vanish(digest, now_s)

    def _see(self, new: Observation, now_s: float) -> None:
        old = self._instances.get(new.digest)
        self._instances[new.digest] = new
        if old is not None and old.phase == new.phase:
            return
        since_s = self._since_s.get(new.digest, now_s)
        self._since_s[new.digest] = now_s
        if new.digest == self.digest and new.phase in ("failed", "exited") and new.digest not in self._stopping:
            healthy_s = now_s - since_s if old is not None and old.phase == "ready" else 0.0
            if not (new.phase == "exited" and self._is_final(new)):
                self._failures.add(now_s, new.message, healthy_s)

    def _vanish(self, digest: str, now_s: float) -> None:
        old = self._instances.pop(digest)
        self._mechanisms.pop(digest, None)
        since_s = self._since_s.pop(digest, now_s)
        if digest in self._stopping:
            del self._stopping[digest]
        elif digest == self.digest and old.phase in ALIVE:
            self._failures.add(now_s, "it is gone", now_s - since_s if old.phase == "ready" else 0.0)

    def _is_final(self, ended: Observation) -> bool:
        """Whether a process that ended is left alone."""
        if self.spec is None or not isinstance(self.spec.task, ProcessTask):
            return False
        policy = self.spec.task.restart
        return policy == "never" or (policy == "onFailure" and ended.exit_ok)

    def _is_wanted(self, allowed: Allowed) -> bool:
        if self.spec is None or self.spec.draining or allowed.draining:
            return False
        return allowed.lease_held or not self.spec.single_instance

    def converge(self, allowed: Allowed, now_s: float) -> Iterator[Start | Stop]:
        """What to begin now. Each is asked for once: it counts as under way until it is answered or observed."""
        for digest in sorted(self._stopping):
            yield from self._stop(digest, STOP_S, now_s)
        if not self._is_wanted(allowed):
            yield from self._stop_all(allowed, now_s)
            return
        current = self._current
        others = [digest for digest in sorted(self._instances) if digest != self.digest]
        if current is not None and current.phase == "ready":
            for digest in others:
                yield from self._stop(digest, STOP_S, now_s)
        elif self._start_timed_out(now_s):
            self._failures.add(now_s, "not ready in time", 0.0)
            yield from self._stop(self.digest, 0.0, now_s)
        elif self._may_start(allowed, now_s):
            if others and self._must_not_overlap():
                for digest in others:
                    yield from self._stop(digest, STOP_S, now_s)
            else:
                yield self._start()

    def _stop_all(self, allowed: Allowed, now_s: float) -> Iterator[Stop]:
        is_drain = allowed.draining or (self.spec is not None and self.spec.draining)
        for digest in sorted(self._instances):
            yield from self._stop(digest, DRAIN_S if is_drain else STOP_S, now_s)

    def _stop(self, digest: str, drain_s: float, now_s: float) -> Iterator[Stop]:
        if now_s >= self._stopping.get(digest, now_s):
            self._stopping[digest] = now_s + drain_s + STOP_AGAIN_S
            yield Stop(self._mechanisms[digest], digest, drain_s)

    def _start(self) -> Start:
        assert self.spec is not None
        self._started.add(self.digest)
        self._mechanisms[self.digest] = self.mechanism
        self._instances.pop(self.digest, None)  # of an ended instance; the answer brings the new one
        self._since_s.pop(self.digest, None)
        return Start(self.mechanism, self.spec, self.digest)

    def _may_start(self, allowed: Allowed, now_s: float) -> bool:
        if self._started or self.mechanism not in allowed.mechanisms or self.mechanism not in allowed.observed:
            return False
        if self.digest in self._stopping or now_s < self._failures.not_before_s:
            return False
        current = self._current
        if current is None:
            return True
        return current.phase == "failed" or (current.phase == "exited" and not self._is_final(current))

    def _must_not_overlap(self) -> bool:
        assert self.spec is not None
        task = self.spec.task
        return self.spec.single_instance or (isinstance(task, ProcessTask) and any(port.port for port in task.ports))

    def _start_deadline_s(self) -> float | None:
        current = self._current
        task = self.spec.task if self.spec else None
        if current is None or current.phase != "starting" or self.digest in self._stopping:
            return None
        ready = task.ready if isinstance(task, ProcessTask) else None
        return None if ready is None else self._since_s[self.digest] + ready.timeout_s

    def _start_timed_out(self, now_s: float) -> bool:
        deadline_s = self._start_deadline_s()
        return deadline_s is not None and now_s >= deadline_s

    def wake_s(self, allowed: Allowed, now_s: float) -> float | None:
        """When `converge` would answer otherwise with no event before; None when time changes nothing."""
        times = [self._start_deadline_s(), *self._stopping.values()]
        has_ended = self._current is None or self._current.phase in ("failed", "exited")
        if has_ended and self._failures.not_before_s > now_s and self._is_wanted(allowed):
            times.append(self._failures.not_before_s)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def report(self, allowed: Allowed) -> ReplicaReport | None:
        """What the control plane is told; None when there is nothing left of it."""
        shown = self._shown()
        if shown is None:
            phase, message = self._waiting(allowed)
            return None if phase is None or self.spec is None else ReplicaReport(
                id=self.id, revision=self.spec.revision, phase=phase, message=message, restarts=self._failures.count
            )  # fmt: skip
        phase, message = self._phase_of(shown, allowed)
        return ReplicaReport(
            id=self.id,
            revision=shown.revision,
            phase=phase,
            message=message[:1024],
            pid=shown.pid,
            restarts=shown.restarts + self._failures.count,
            ports=dict(shown.ports),
        )

    def _shown(self) -> Observation | None:
        """The instance that speaks for the replica: one that serves, else the wanted one, else any."""
        current = self._current
        serving = [one for one in self.instances if one.phase == "ready"]
        if current in serving or not serving:
            return current or next(iter(self.instances), None)
        return serving[0]

    def _phase_of(self, shown: Observation, allowed: Allowed) -> tuple[Phase, str]:
        if not self._is_wanted(allowed):
            return "stopping", shown.message
        if shown.digest != self.digest:
            told = self._failures.message or (self._current.phase if self._current else "pending")
            return ("ready" if shown.phase == "ready" else "notReady"), f"the next revision: {told}"
        if shown.phase == "failed" or shown.phase == "exited":
            is_lost = self._is_final(shown) and not shown.exit_ok
            return ("failed" if self._failures.is_loop or is_lost else "notReady"), shown.message
        if shown.phase == "stopping" or shown.digest in self._stopping:
            return "notReady", self._failures.message or shown.message
        return shown.phase, shown.message

    def _waiting(self, allowed: Allowed) -> tuple[Phase | None, str]:
        if self.spec is None or self.spec.draining or allowed.draining:
            return None, ""
        if self.mechanism not in allowed.mechanisms:
            return "failed", f"the mechanism {self.mechanism!r} is not enabled on this node"
        if not self._is_wanted(allowed):
            return "pending", "waits for a lease: only one instance may run"
        if self._failures.message:
            return ("failed" if self._failures.is_loop else "notReady"), self._failures.message
        return ("starting" if self._started else "pending"), ""
