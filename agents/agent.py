"""One joined node's agent: the asyncio driver that connects the cores with the wire, the disk and the mechanisms.

`run.py` makes one and runs it. Events of the reconcile core are handled one after the other, each with its effects
carried out in order, so that what must be durable is. What runs on the node is started before any connection is tried
and goes on when this ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Coroutine, Mapping
from functools import partial
from random import Random
from typing import assert_never

from ..descriptions.errors import ShoalError
from ..descriptions.messages.desired import Desired, InferenceTask
from ..descriptions.messages.gateway import ServingReport
from ..descriptions.messages.lease import Ack, Command, Lease, Routes
from ..descriptions.messages.reported import Inventory, NodeCondition
from ..descriptions.signing import key_ring
from ..mechanisms.inference import Inference
from ..mechanisms.mechanism import Mechanism
from ..mechanisms.process_handle import boot_id
from ..mechanisms.runner import GatewayBind, Host
from ..mechanisms.transfer.origin import Origins
from ..telemetry.link import LinkState
from ..telemetry.logs import RecentLogs, set_log_level
from . import lease as leases
from . import reconcile_events as core
from .clock import boottime_s
from .commands import Commands
from .conditions import Vitals, conditions
from .config import AgentOptions
from .disk import Disk
from .documents import fetch_desired
from .files import DiskBrokenError
from .identity import Identity
from .inventory import take_inventory
from .journal import Journal
from .leasing import Leasing
from .log_reader import LogReader
from .outbox import Limits
from .receiving import Receiving
from .reconcile import Reconciler
from .reporting import Reporter
from .runners import Runners
from .sampling import Sampler
from .slots import Slots
from .spool import Spool
from .timer import Timer
from .wire import Handlers, Wire

logger = logging.getLogger(__name__)

SHUT_DOWN_S = 60.0
"""How long replicas may take when they are stopped with the agent."""


class Agent:
    """All parts of one agent."""

    def __init__(
        self,
        options: AgentOptions,
        identity: Identity,
        disk: Disk,
        mechanisms: Mapping[str, Mechanism],
        own_log: RecentLogs,
        rng: Random,
    ) -> None:
        self.options, self.identity, self.disk = options, identity, disk
        reply, self._rng, self.boot_id = identity.reply, rng, boot_id()
        self._keys = key_ring(reply.verify_keys)
        self._ids = itertools.count(1)
        self._events: asyncio.Queue[tuple[core.Event, asyncio.Future[None] | None]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        """Nothing runs: a drain is complete."""
        self.is_draining = False
        self.damaged = disk.database.quarantined
        self.runners = Runners(mechanisms, self.post, self.new_id)
        inference = mechanisms.get("inference")
        self.inference = inference if isinstance(inference, Inference) else None
        self.host = self._make_host()
        self.wire = Wire(identity, options.broker, self._keys, self._handlers(), self.boot_id)
        self.slots = Slots(options.state, self._keys, self.wire.topic("down/desired"))
        self.reconciler = Reconciler(reply.node_uid, reply.slice, self.runners.runner_names, disk.database.mark(), rng)
        limits = Limits(options.outbox.quota, options.outbox.telemetry_max)
        self.spool = Spool(reply.node_uid, disk, self.wire, self.new_id, limits)
        self.spool.on_failure = self._end
        self.journal = Journal(disk, self.runners)
        self.leasing = Leasing(
            reply, self.boot_id, self.host.lease_file, self.reconciler, rng, self.new_id, self.post,
            partial(self.wire.send, "up/hb", qos=0), lambda: self.spool.core.waiting, self._use_load_level,
        )  # fmt: skip
        self.receiving = Receiving(options.otlp, options.runtime, self._is_here)
        self.sampler = Sampler(
            options.state, self.spool.add_batch, self._serving, rng, self.counters, self.receiving.received
        )
        self.reporter = Reporter(
            reply.node_uid, self.boot_id, disk.incarnation, self.reconciler, self.runners, Inventory(),
            self.gateway_url, self.conditions, partial(self.wire.send, "up/reported", qos=1, retain=True),
        )  # fmt: skip
        self.commands = Commands(
            disk, self.runners, self.reconciler, LogReader(own_log),
            partial(self.wire.send, "up/cmdres", qos=1), self.sampler.measure,
        )  # fmt: skip
        self._timer = Timer(lambda: self.post(core.Woken(self.new_id())))

    def _make_host(self) -> Host:
        options, reply = self.options, self.identity.reply
        gateway, plane = options.gateway, options.control_plane
        return Host(
            node=reply.node_name,
            slice=reply.slice,
            state_dir=options.state,
            runtime_dir=options.runtime,
            changed=self.runners.changed,
            gateway_url=lambda: self.inference.gateway_url if self.inference else "",
            otlp_url=lambda: self.receiving.url,
            origins=Origins(reply.api_url or plane.url, plane.ca, plane.plain_http, reply.api_token),
            gateway=GatewayBind(
                gateway.host, gateway.port, gateway.advertise, gateway.predictors, gateway.token_file, gateway.insecure
            ),
        )

    def _handlers(self) -> Handlers:
        return Handlers(
            desired=self._hear_desired,
            lease=self._hear_lease,
            ack=self._hear_ack,
            command=self._hear_command,
            routes=self._hear_routes,
            link=self._hear_link,
            returned=self._hear_return,
        )

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, *, stop_replicas: bool) -> None:
        """Start what is known, connect, and go on until told to stop. Raises `DiskBrokenError` to be started anew.

        `stop_replicas`: what runs ends with the agent.
        """
        try:
            await self._start_from_disk()
            take = partial(take_inventory, self.options.state, self.options.inventory)
            self.reporter.inventory = await asyncio.to_thread(take)
            self.sampler.start()
            self.reporter.start()
            async with self.wire:
                stopping = asyncio.create_task(stop.wait(), name="stopping")
                await asyncio.wait((stopping, self._ended), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if stop_replicas:
                    await self._stop_replicas()
        finally:
            await self._close()
        if self._ended.done():
            self._ended.result()

    def _is_here(self, name: str) -> bool:
        """Whether a replica, or a component named `application.component`, is this node's."""
        desired = self.reconciler.desired
        replicas = desired.spec.replicas if desired is not None and desired.spec is not None else ()
        return any(name in {one.id, f"{one.application}.{one.component}"} for one in replicas)

    def _use_load_level(self, level: int) -> None:
        self.sampler.use_load_level(level)

    async def _start_from_disk(self) -> None:
        """The last known good document, with no network in sight."""
        problem = await self.receiving.open()  # components find its address in their environment
        if problem:
            told = f"application metrics are not taken: {problem}"
            self.spool.raise_event("Agent", "ReceiverFailed", told, severity="warning")
        await self.runners.open(self.host)
        self._spawn(self._reconcile(), "reconcile")
        self.spool.raise_event("Agent", "AgentStarted", f"run {self.disk.incarnation}")
        if self.disk.database.quarantined:
            told = f"a new one was made, events may be missing: {self.disk.database.quarantined}"
            self.spool.raise_event("Agent", "DatabaseQuarantined", told, severity="error")
        kept, problems = await asyncio.to_thread(self.slots.load)
        for problem in problems:
            self.damaged = problem
            self.spool.raise_event("Agent", "SlotDamaged", problem, severity="error")
        self.post(await self.journal.recover(self.new_id()))
        self.leasing.handle(leases.Woken(self.new_id()))  # a lease of the run before counts before the document does
        if kept is not None:
            logger.info("generation=%d started from disk", kept.desired.generation)
            self.post(core.DesiredReceived(self.new_id(), kept.desired, kept.sealed, from_disk=True))

    async def drain(self, *, wanted: bool) -> None:
        """Stop everything as if drained, or take that back; returns when it is decided, not when it is done."""
        self.is_draining = wanted
        await self._post_and_wait(core.DrainRequested(self.new_id(), wanted))
        self.reporter.changed()

    async def _stop_replicas(self) -> None:
        await self.drain(wanted=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUT_DOWN_S):
                await self._idle.wait()
        if self.inference is not None and self.inference.gateway_url:
            with contextlib.suppress(ShoalError):
                await self.inference.session.gateway.shut_down(0.0)

    async def _close(self) -> None:
        self._timer.cancel()
        await self.receiving.close()
        self.leasing.close()
        await self.sampler.close()
        await self.reporter.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.runners.close()
        await self.spool.close()

    def _end(self, error: DiskBrokenError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def new_id(self) -> str:
        """Unique over all runs of this agent."""
        return f"{self.disk.incarnation}.{next(self._ids)}"

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, DiskBrokenError):
            self._end(error)
        elif error is not None and not self._ended.done():
            self._ended.set_exception(error)  # a mistake of ours: better to start anew than to go on lame

    # --- reconcile ----------------------------------------------------------------------------------------------

    def post(self, event: core.Event) -> None:
        """Hand an event to the reconcile core, after those that are there."""
        self._events.put_nowait((event, None))

    async def _post_and_wait(self, event: core.Event) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._events.put_nowait((event, done))
        await done

    async def _reconcile(self) -> None:
        while True:
            event, done = await self._events.get()
            for effect in self.reconciler.handle(event, boottime_s()):
                await self._perform(effect)
            (self._idle.set if self.reconciler.is_idle else self._idle.clear)()
            if done is not None and not done.done():
                done.set_result(None)

    async def _perform(self, effect: core.Effect) -> None:
        match effect:
            case core.SaveMark():
                await self.disk.try_run(partial(self.disk.database.save_mark, effect.mark))
            case core.SaveDesired():
                await self.disk.try_run(partial(self._save_desired, effect.sealed))
            case core.PromoteDesired():
                await self.disk.try_run(partial(self.disk.database.save_good_digest, effect.digest))
            case core.StartReplica():
                if effect.spec.single_instance:
                    self.leasing.write_file()
                self.runners.submit(effect)
            case core.StopReplica():
                self.runners.submit(effect)
            case core.ApplySetting():
                self._spawn(self._finish(self.journal.apply(effect)), "apply")
            case core.UndoSetting():
                self._spawn(self._finish(self.journal.undo(effect.cause, effect.key)), "undo")
            case core.FetchDesired():
                self._spawn(self._fetch(effect), "fetch-desired")
            case _:
                self._perform_at_once(effect)

    def _save_desired(self, sealed: bytes) -> None:
        self.slots.save(sealed, self.disk.database.good_digest())

    def _perform_at_once(
        self,
        effect: core.Refuse | core.UseSettings | core.WatchModels | core.ReportChanged | core.RaiseEvent | core.WakeAt,
    ) -> None:
        match effect:
            case core.Refuse():
                self.wire.dropped["down/desired"] += 1
                logger.warning("document refused: %s", effect.reason)
            case core.UseSettings(settings=settings):
                self.leasing.handle(leases.TimingsChanged(self.new_id(), settings.heartbeat_s, settings.lease_s))
                self.sampler.use(settings)
                with contextlib.suppress(ShoalError):
                    set_log_level(settings.log_level)
            case core.WatchModels():
                self._spawn(self._watch(frozenset(effect.models)), "watch-models")
            case core.ReportChanged():
                self.sampler.watch(self.reconciler.reports())
                self.reporter.changed()
            case core.RaiseEvent():
                self.spool.raise_event(effect.type, effect.reason, effect.message, effect.replica, effect.severity)
            case core.WakeAt():
                self._timer.set(effect.at_s)
            case _:
                assert_never(effect)

    async def _finish(self, work: Coroutine[object, object, core.SettingFinished]) -> None:
        self.post(await work)
        await self.reporter.look_at_mechanisms()

    async def _fetch(self, effect: core.FetchDesired) -> None:
        topic = self.wire.topic("down/desired")
        try:
            fetch = partial(fetch_desired, effect.desired, self.host.origins, self._keys, topic)
            desired, sealed = await asyncio.to_thread(fetch)
        except ShoalError as error:
            logger.warning("generation=%d not fetched: %s", effect.desired.generation, error)
            self.post(core.FetchFailed(self.new_id(), effect.desired, str(error)))
        else:
            self.post(core.DesiredReceived(self.new_id(), desired, sealed))

    async def _watch(self, models: frozenset[str]) -> None:
        await self.wire.watch_models(models)
        if self.inference is None:
            logger.warning("components call models, but the mechanism 'inference' is not enabled here")
            return
        with contextlib.suppress(ShoalError):  # the gateway is told again when it is up
            await self.inference.watch(models)

    # --- wire ---------------------------------------------------------------------------------------------------

    async def _hear_desired(self, desired: Desired, sealed: bytes) -> None:
        await self._post_and_wait(core.DesiredReceived(self.new_id(), desired, sealed))

    def _hear_lease(self, lease: Lease) -> None:
        self.leasing.handle(leases.LeaseReceived(self.new_id(), lease))

    def _hear_ack(self, ack: Ack) -> None:
        self.spool.acknowledged(ack)

    async def _hear_command(self, command: Command) -> None:
        await self.commands.receive(command)

    async def _hear_routes(self, routes: Routes) -> None:
        if self.inference is not None:
            with contextlib.suppress(ShoalError):
                await self.inference.route(routes)

    def _hear_link(self, state: LinkState, session: str) -> None:
        if state is LinkState.CONNECTED:
            logger.info("connected, session=%s", session)
            self.leasing.handle(leases.LinkUp(self.new_id(), session))
            self.sampler.redefine()
            self.spool.link_changed(is_up=True)
            self.reporter.changed(anew=True)
        elif state is LinkState.DISCONNECTED:
            self.leasing.handle(leases.LinkDown(self.new_id()))
            self.spool.link_changed(is_up=False)

    def _hear_return(self) -> None:
        if self.wire.is_up:
            self.sampler.redefine()
            self.spool.peer_returned()

    # --- what is told -------------------------------------------------------------------------------------------

    def gateway_url(self) -> str:
        """Where other nodes reach this node's models; empty as long as no gateway runs."""
        url = self.host.gateway_url()
        return (self.options.gateway.advertise or url) if url else ""

    async def _serving(self) -> tuple[ServingReport, ...]:
        return await self.inference.serving() if self.inference is not None else ()

    def conditions(self) -> tuple[NodeCondition, ...]:
        """The node's conditions now."""
        self.disk.keep_reserve()
        outbox = self.spool.core
        lost = f"{outbox.bytes} bytes wait, dropped {dict(outbox.dropped)}" if outbox.is_under_pressure else ""
        desired = self.reconciler.desired
        spec = desired.spec if desired is not None else None
        replicas = spec.replicas if spec is not None else ()
        return conditions(
            Vitals(
                disk_pressure=self.disk.pressure(),
                outbox_pressure=lost,
                gateway_needed=any(one.interacts or isinstance(one.task, InferenceTask) for one in replicas),
                gateway_up=bool(self.host.gateway_url()),
                setting_problems=self.reconciler.problems(),
                draining=self.is_draining,
                damaged=self.damaged,
            )
        )

    def counters(self) -> Mapping[str, float]:
        """The agent's own counters, by metric name."""
        return {
            "shoal.agent.commits": self.disk.database.commits,
            "shoal.agent.messages.dropped": self.wire.dropped.total() + self.leasing.ignored,
            "shoal.agent.outbox.dropped": sum(self.spool.core.dropped.values()),
            "shoal.agent.mechanism.failures": self.runners.failures,
        }
