"""Carries out what the replica cores decide.

Events come from the admin API, from workers and zygotes and from timers; each goes to one `ReplicaCore`, whose effects
start, switch, retire and kill `WorkerProcess`es. Workers that may take requests stand in the pool of their model and
version (`models.py`).
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import time
from dataclasses import dataclass, field
from functools import partial

from ....descriptions.messages.gateway import ServingPhase, ServingSpec
from . import replica as core
from .latency import LatencyWindow
from .models import ModelTable
from .pool import ATTEMPTS_MAX, Call, Outlook, Pool
from .replica import ReplicaCore
from .stats import ReplicaStats, add
from .worker_link import Loaded, WorkerCounters, WorkerLink
from .worker_process import WorkerPlace, WorkerProcess
from .zygote_link import ZygoteLink

logger = logging.getLogger(__name__)

BROKEN_RETRY_AFTER_S = 30.0


@dataclass(eq=False)
class Replica:
    """A replica's core, workers and counters."""

    id: str
    core: ReplicaCore
    stats: ReplicaStats
    since: str = ""
    """When phase or version last changed, RFC 3339."""
    seen: tuple[ServingPhase, str] | None = None
    workers: dict[int, WorkerProcess] = field(default_factory=dict)
    """By incarnation: the serving one, the next, and those that end."""
    restart_at_s: float = 0.0
    """When the next worker starts, after a death."""

    @property
    def serving(self) -> WorkerProcess | None:
        """The worker of the serving incarnation, ready or not."""
        return self.workers.get(self.core.serving.number) if self.core.serving else None

    def links(self) -> list[WorkerLink]:
        """Sockets of its workers."""
        return [worker.link for worker in self.workers.values() if worker.link is not None]

    def counters(self) -> WorkerCounters:
        """Summed over all workers that it ever had."""
        total = self.stats.ended
        for link in self.links():
            total = add(total, link.counters)
        return total


@dataclass(eq=False)
class Serving:
    """All replicas of this gateway."""

    models: ModelTable
    zygotes: dict[str, ZygoteLink]
    """By plugin name."""
    place: WorkerPlace
    loop: asyncio.AbstractEventLoop
    replicas: dict[str, Replica] = field(default_factory=dict)
    workers: dict[int, WorkerProcess] = field(default_factory=dict)
    """By incarnation, over all replicas."""
    _numbers: list[int] = field(default_factory=lambda: [0])
    _owners: dict[int, Replica] = field(default_factory=dict)
    all_gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while there is neither replica nor worker."""
    _starting: set[asyncio.Task[None]] = field(default_factory=set)

    # -- orders of the admin API -------------------------------------------------------------------

    def put(self, replica_id: str, spec: ServingSpec) -> Replica:
        """Have a replica serve this."""
        replica = self.replicas.get(replica_id)
        if replica is None or replica.core.is_deleted:
            replica = Replica(replica_id, ReplicaCore(self._numbers), ReplicaStats(LatencyWindow(time.monotonic())))
            self.replicas[replica_id] = replica
        self._handle(replica, core.SpecPut(spec))
        return replica

    def delete(self, replica: Replica, drain_s: float) -> None:
        """Let a replica finish what it holds and vanish."""
        self._handle(replica, core.DeleteAsked(drain_s))

    def ready_worker(self, pool: Pool) -> WorkerProcess | None:
        """Some worker that takes requests of this pool."""
        return next((worker for worker in self.workers.values() if worker.link in pool.workers), None)

    # -- what zygotes and workers say --------------------------------------------------------------

    def worker_spawned(self, incarnation: int, pid: int, pidfd: int) -> None:
        if (worker := self.workers.get(incarnation)) is not None:
            worker.spawned(pid, pidfd)
        else:
            os.close(pidfd)  # it was ended before it was forked, and finds its lifeline closed

    def worker_exited(self, incarnation: int, reason: str) -> None:
        if (worker := self.workers.get(incarnation)) is not None:
            worker.exited(reason)

    def worker_unborn(self, incarnation: int, reason: str) -> None:
        if (worker := self.workers.get(incarnation)) is not None:
            self.worker_refused(worker, reason)

    def worker_ready(self, worker: WorkerProcess, loaded: Loaded) -> None:
        self._handle(
            self._owners[worker.incarnation], core.WorkerReady(worker.incarnation, loaded.device, loaded.reason)
        )

    def worker_refused(self, worker: WorkerProcess, reason: str) -> None:
        self._handle(self._owners[worker.incarnation], core.LoadFailed(worker.incarnation, reason))

    def worker_lost(self, worker: WorkerProcess) -> None:
        pool = self.models.exact(worker.spec)
        for slots in (pool.workers, pool.retiring) if pool else ():
            if worker.link in slots:
                slots.remove(worker.link)

    def worker_died(self, worker: WorkerProcess, reason: str) -> None:
        logger.warning("replica=%s pid=%d died: %s", worker.replica, worker.pid, reason)
        self._over(worker, core.WorkerDied(worker.incarnation, reason), f"the worker died at this request: {reason}")

    def worker_gone(self, worker: WorkerProcess) -> None:
        self._over(worker, core.WorkerGone(worker.incarnation), "the worker was ended at this request")

    def call_answered(self, worker: WorkerProcess, call: Call, status: int) -> None:
        assert worker.link is not None
        stats = self._owners[worker.incarnation].stats
        stats.record(status, call.exchange.received_s, call.dispatched_s, worker.link.head_since_s)
        pool = self.models.exact(worker.spec)
        assert pool is not None  # it stays while a worker of it lives
        if pool.queue:
            pool.pump()
        if worker.is_retiring:
            self._end_if_idle(worker, pool)

    # -- effects -----------------------------------------------------------------------------------

    def _handle(self, replica: Replica, event: core.Event) -> None:
        for effect in replica.core.handle(event, time.monotonic()):
            self._perform(replica, effect)
        state = replica.core
        now = (state.phase, state.serving.spec.version if state.serving else "")
        if now != replica.seen:
            replica.seen = now
            replica.since = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            logger.info(
                "replica=%s phase=%s version=%s %s", replica.id, *now, state.serving.reason if state.serving else ""
            )
        self._sweep_pools()

    def _perform(self, replica: Replica, effect: core.Effect) -> None:
        match effect:
            case core.StartWorker(incarnation=number, spec=spec):
                self._start(replica, number, spec)
            case core.Switch(incarnation=number):
                self._switch(replica.workers[number])
            case core.Retire(incarnation=number, drain_s=drain_s):
                self._retire(replica.workers[number], drain_s)
            case core.Kill(incarnation=number):
                replica.workers[number].kill("told to end", is_asked=True)
            case core.WakeAt(incarnation=number, at_s=at_s):
                replica.restart_at_s = at_s
                self.loop.call_later(at_s - time.monotonic(), self._handle, replica, core.RestartDue(number))
            case core.Forget():
                if self.replicas.get(replica.id) is replica:  # and not one that came after it
                    del self.replicas[replica.id]
                    self.place.remove_logs(replica.id)

    def _start(self, replica: Replica, number: int, spec: ServingSpec) -> None:
        worker = WorkerProcess(replica.id, number, spec, self)
        replica.workers[number] = self.workers[number] = worker
        self._owners[number] = replica
        task = self.loop.create_task(worker.start(self.zygotes[spec.plugin], self.place), name=f"start {replica.id}")
        self._starting.add(task)
        task.add_done_callback(partial(self._started, worker))

    def _started(self, worker: WorkerProcess, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, OSError):
            raise error
        self.worker_refused(worker, f"the worker can't be started: {error}")

    def _switch(self, worker: WorkerProcess) -> None:
        assert worker.link is not None
        pool = self.models.of(worker.spec)
        pool.workers.append(worker.link)
        pool.pump()

    def _retire(self, worker: WorkerProcess, drain_s: float) -> None:
        worker.is_retiring = True
        pool = self.models.of(worker.spec)
        if worker.link is None or worker.link not in pool.workers:
            worker.kill("told to end", is_asked=True)
            return
        pool.workers.remove(worker.link)
        pool.retiring.append(worker.link)
        if not pool.workers:
            self.models.reroute(pool)
        self.loop.call_later(drain_s, worker.end_late)
        self._end_if_idle(worker, pool)

    def _end_if_idle(self, worker: WorkerProcess, pool: Pool) -> None:
        """End a retiring worker when it holds nothing and nobody needs it."""
        if worker.link is not None and not worker.link.in_flight and (pool.workers or not pool.queue):
            worker.end()

    # -- ends --------------------------------------------------------------------------------------

    def _over(self, worker: WorkerProcess, event: core.Event, reason: str) -> None:
        replica = self._owners.pop(worker.incarnation)
        del replica.workers[worker.incarnation]
        del self.workers[worker.incarnation]
        waiting: list[Call] = []
        if worker.link is not None:
            replica.stats.fold(worker.link.counters)
            waiting = self._settle_begun(replica, worker.link, reason)
        self._handle(replica, event)
        pool = self.models.exact(worker.spec)
        for call in waiting if pool is None else ():
            call.exchange.refuse(503, reason, retry_after_s=1.0)
        if pool is not None:
            pool.put_back(waiting)
            self.models.set_outlook(pool, self._outlook(pool))

    def _settle_begun(self, replica: Replica, link: WorkerLink, reason: str) -> list[Call]:
        """Fail the call that the worker was at; those behind it have not begun and are given back."""
        waiting = []
        for place, call in enumerate(link.take_held()):
            if place and call.attempts < ATTEMPTS_MAX and not call.is_abandoned:
                waiting.append(call)
                continue
            call.exchange.refuse(503, reason, retry_after_s=1.0)
            replica.stats.record(503, call.exchange.received_s, call.dispatched_s, time.monotonic())
        return waiting

    def _sweep_pools(self) -> None:
        """Drop pools that nothing belongs to any more, and tell the others what to expect."""
        named = {
            (incarnation.spec.model, incarnation.spec.version)
            for replica in self.replicas.values()
            for incarnation in (replica.core.serving, replica.core.update)
            if incarnation is not None and not replica.core.is_deleted
        }
        named |= {(worker.spec.model, worker.spec.version) for worker in self.workers.values()}
        for replica in self.replicas.values():
            for incarnation in (replica.core.serving, replica.core.update):
                if incarnation is not None and not replica.core.is_deleted:
                    self.models.of(incarnation.spec)
        self.models.keep(named)
        for pool in self.models.pools():
            self.models.set_outlook(pool, self._outlook(pool))
        if self.replicas or self.workers:
            self.all_gone.clear()
        else:
            self.all_gone.set()

    def _outlook(self, pool: Pool) -> Outlook:
        """What a request may hope for while no worker of this pool is there."""
        outlook = Outlook(is_hopeful=False)
        for replica in self.replicas.values():
            state = replica.core
            serving = state.serving
            if serving is None or (serving.spec.model, serving.spec.version) != (pool.model, pool.version):
                continue
            due_s = max(0.0, replica.restart_at_s - time.monotonic())
            comes_back = serving.phase in ("ready", "loading") and state.was_ready  # ready: its end isn't told yet
            if comes_back and due_s < self.models.queue_s_max / 2:
                return Outlook()
            retry_after_s = BROKEN_RETRY_AFTER_S if serving.phase == "broken" else max(1.0, due_s)
            outlook = Outlook(is_hopeful=False, reason=serving.reason or "it is loading", retry_after_s=retry_after_s)
        return outlook
