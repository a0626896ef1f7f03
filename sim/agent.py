"""One life of an agent: the second driver of the agent's cores (the first is `agents/run.py`).

Turns packets, deadlines and the runners' answers into events of `Reconciler`, `LeaseKeeper` and, in `agent_outbox.py`,
`Outbox`; carries their effects out on the simulated machine, in order: what must be durable is synced before what
follows from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol, assert_never

from ..agents import lease as leases
from ..agents import reconcile_events as wanted
from ..agents.lease import LeaseKeeper
from ..agents.outbox_events import BatchUrgency
from ..agents.reconcile import Reconciler
from ..agents.slots import open_desired
from ..descriptions.errors import ProtocolError
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.desired import Settings
from ..descriptions.messages.lease import Ack, ControlPlaneState, Heartbeat, Lease, Spread
from ..descriptions.messages.reported import Inventory, MechanismReport, Reported
from ..descriptions.signing import open_sealed
from ..descriptions.topics import node_topic, shared_topic
from ..mechanisms.runner import Observation, run_digest
from .agent_files import AgentFiles
from .agent_outbox import Spool
from .link import Message
from .machine import Machine
from .observed import AgentStarted, DesiredApplied, DocumentLoaded, StopAsked
from .process import Life

MECHANISMS = ("inference", "process")
SYNC_S = (0.002, 0.03)
"""How long an fsync takes."""
LOOK_S = 0.2
"""A runner is looked at this long after something changed."""
CALL_S = 0.02
"""How long a call of a runner or mechanism takes."""
REPORT_S = 0.05
CHANNELS = ("down/desired", "down/lease", "down/ack", "up/hb", "up/reported")


class Telemetry(Protocol):
    """What a machine measures."""

    def measure(self, machine: Machine, local_s: float) -> Iterable[tuple[BatchUrgency, bytes]]:
        """Batches at a time of the machine's monotonic clock."""
        ...

    def redefine(self, machine: Machine) -> None:
        """Say again what each series is: whoever listens now may not know."""
        ...


class Agent:
    """The agent's process on a machine."""

    def __init__(self, machine: Machine, telemetry: Telemetry) -> None:
        env = machine.env
        self.machine = machine
        self._env = env
        self._telemetry_source = telemetry
        self._peer = ""
        """Session of the control plane that was heard last."""
        self._random = Random(env.kernel.random.getrandbits(64))
        self._topics = {name: node_topic(env.slice, machine.uid, name) for name in CHANNELS}
        self._handlers: dict[str, Callable[[str, bytes], None]] = {
            self._topics["down/desired"]: self._desired,
            self._topics["down/lease"]: self._leased,
            self._topics["down/ack"]: self._acked,
            shared_topic(env.slice, "spread"): self._spread,
            shared_topic(env.slice, "state"): self._hear_control_plane,
        }
        self.files = AgentFiles(machine.disk, machine.database, env.ring, self._topics["down/desired"])
        self._incarnation = self.files.next_incarnation()
        self._life: Life[str] = Life(
            machine.name, env.kernel, machine.clock, f"{machine.uid}.{self._incarnation}.", self._fired
        )
        names = (f"{self._random.getrandbits(48):012x}", f"{self._random.getrandbits(48):012x}")
        self.spool = Spool(machine, self._life, self.files, names)
        self.lease = LeaseKeeper(5.0, 30.0, self._random, machine.runtime.guard_until_s)
        self.reconciler = Reconciler(machine.uid, env.slice, frozenset(MECHANISMS), self.files.mark(), self._random)
        self._waiting: deque[wanted.Event] = deque()
        self._todo: deque[wanted.Effect] = deque()
        self._is_working = self._is_syncing = False
        self._woken_s = 0.0
        """A deadline of the core that has come; the clock may read a float's last bit less."""
        self._looks: set[str] = set()
        self._is_reporting = False
        self._seq = 0
        self.settings = Settings()
        self.refused = 0

    # Lifetime.

    def begin(self) -> None:
        """Start from what is on the disk; the network comes later."""
        started = wanted.RaiseEvent("start", "Agent", "AgentStarted", f"run {self._incarnation}")
        self.spool.raise_event(started)
        name, kept = self.machine.name, self.files.load()
        self._env.note(AgentStarted(name, kept is not None))
        if kept is not None:
            desired = kept.desired
            self._env.note(DocumentLoaded(name, desired.digest, kept.sealed in self._env.documents))
            self._env.note(DesiredApplied(name, desired.epoch, desired.generation, desired.digest, from_disk=True))
            self._reconcile(wanted.DesiredReceived(self._life.new_id(), desired, kept.sealed, from_disk=True))
        self._lease(leases.Woken(self._life.new_id()))
        self.machine.runtime.changed = self._changed
        for mechanism in MECHANISMS:
            self._look(mechanism)
        self._life.after(self._random.random() * self.settings.telemetry_interval_s, self._telemetry)

    def end(self) -> None:
        """Nothing of this life happens any more."""
        self._life.end()
        self.machine.runtime.changed = lambda _mechanism: None

    def freeze(self) -> None:
        """SIGSTOP."""
        self._life.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._life.thaw()

    def clock_changed(self) -> None:
        """The machine's clock has another rate."""
        self._life.clock_changed()

    def _fired(self, timer: str, now_s: float) -> None:
        match timer:
            case "reconcile":
                self._woken_s = now_s
                self._reconcile(wanted.Woken(self._life.new_id()))
            case "lease":
                self._lease(leases.Woken(self._life.new_id()), now_s)
            case _:
                self.spool.woken(now_s)

    # The reconcile core.

    def _reconcile(self, event: wanted.Event) -> None:
        self._waiting.append(event)
        self._work()

    def _work(self) -> None:
        """One event after the other, each with all its effects; a sync holds up what is behind it."""
        if self._is_working:
            return  # an effect caused an event: it has its turn when those before it are done
        self._is_working = True
        while not self._is_syncing and not self._life.is_over and (self._todo or self._waiting):
            if not self._todo:
                event = self._waiting.popleft()
                self._todo.extend(self.reconciler.handle(event, max(self._life.now_s(), self._woken_s)))
                continue
            effect = self._todo.popleft()
            if not self._perform_durable(effect):
                self._perform(effect)
        self._is_working = False

    def _perform_durable(self, effect: wanted.Effect) -> bool:
        match effect:
            case wanted.SaveMark(mark=mark):
                self.files.save_mark(mark)
                applied = DesiredApplied(self.machine.name, mark.epoch, mark.generation, mark.digest, from_disk=False)
                self._sync(lambda: self._env.note(applied) if mark.digest else None)
            case wanted.SaveDesired():
                self.files.save(effect.sealed)
                self._sync(lambda: None)
            case wanted.PromoteDesired():
                self.files.promote(effect.digest)
                self._sync(lambda: None)
            case _:
                return False
        return True

    def _sync(self, then: Callable[[], None]) -> None:
        self._is_syncing = True
        low_s, high_s = SYNC_S

        def synced() -> None:
            self.machine.database.sync()
            self.machine.disk.sync()
            self._is_syncing = False
            then()
            self._work()

        self._life.after(low_s + (high_s - low_s) * self._random.random(), synced)

    def _perform(self, effect: wanted.Effect) -> None:
        match effect:
            case wanted.StartReplica():
                observation = self.machine.runtime.start(effect.spec, effect.digest)
                self._life.after(CALL_S, lambda: self._started(effect, observation))
            case wanted.StopReplica():
                self._stop(effect)
            case wanted.ApplySetting() | wanted.UndoSetting():
                self._life.after(CALL_S, lambda: self._is_set(effect))
            case wanted.FetchDesired():
                self._life.after(CALL_S, lambda: self._fetch(effect))
            case wanted.ReportChanged():
                self._report_soon()
            case wanted.RaiseEvent():
                self.spool.raise_event(effect)
            case wanted.WakeAt():
                self._life.wake("reconcile", effect.at_s)
            case wanted.UseSettings(settings=settings):
                self.settings = settings
                timings = leases.TimingsChanged(self._life.new_id(), settings.heartbeat_s, settings.lease_s)
                self._lease(timings)
            case wanted.Refuse():
                self.refused += 1
            case wanted.WatchModels():
                pass  # `_/#` is subscribed to as a whole
            case _:
                raise TypeError(effect)

    def _started(self, effect: wanted.StartReplica, observation: Observation) -> None:
        self._reconcile(wanted.StartFinished(self._life.new_id(), effect.spec.id, effect.digest, observation))

    def _stop(self, effect: wanted.StopReplica) -> None:
        runtime = self.machine.runtime
        for one in runtime.instances:
            if (one.spec.id, one.digest) == (effect.replica, effect.digest) and one.is_alive:
                is_wanted = self._is_wanted(effect.replica, effect.digest)
                spec = one.spec
                was_ready = one.phase == "ready"
                asked = (runtime.name, spec.id, one.digest, one.component, spec.single_instance, is_wanted, was_ready)
                self._env.note(StopAsked(*asked))
        runtime.stop(effect.replica, effect.digest, effect.drain_s)

    def _is_wanted(self, replica: str, digest: str) -> bool:
        """Whether the document in force wants this very instance."""
        desired = self.reconciler.desired
        specs = desired.spec.replicas if desired is not None and desired.spec is not None else ()
        return any(one.id == replica and run_digest(one) == digest and not one.draining for one in specs)

    def _is_set(self, effect: wanted.ApplySetting | wanted.UndoSetting) -> None:
        undone = isinstance(effect, wanted.UndoSetting)
        self._reconcile(wanted.SettingFinished(self._life.new_id(), effect.key, undone, "done"))

    def _fetch(self, effect: wanted.FetchDesired) -> None:
        path = self._env.network.path(self.machine.name)
        is_cut = path.up.is_blocked or path.down.is_blocked
        try:
            sealed = None if is_cut else self._env.large.get(effect.desired.url)
            if sealed is None:
                raise ProtocolError("the control plane did not answer")
            desired = open_desired(self._env.ring, sealed, self._topics["down/desired"])
            self._reconcile(wanted.DesiredReceived(self._life.new_id(), desired, sealed))
        except ProtocolError as error:
            self._reconcile(wanted.FetchFailed(self._life.new_id(), effect.desired, str(error)))

    def _changed(self, mechanism: str) -> None:
        if mechanism not in self._looks:
            self._looks.add(mechanism)
            self._life.after(LOOK_S, lambda: self._look(mechanism))

    def _look(self, mechanism: str) -> None:
        self._looks.discard(mechanism)
        self._reconcile(wanted.Observed(self._life.new_id(), mechanism, self.machine.runtime.observe(mechanism)))

    # Reports and telemetry.

    def _report_soon(self) -> None:
        if not self._is_reporting:
            self._is_reporting = True
            self._life.after(REPORT_S, self._report)

    def _report(self) -> None:
        self._is_reporting = False
        machine, desired = self.machine, self.reconciler.desired
        self._seq += 1
        reported = Reported(
            machine.uid,
            machine.boot_id,
            self._incarnation,
            self._seq,
            desired.epoch if desired else 0,
            desired.generation if desired else 0,
            desired.digest if desired else "",
            self.reconciler.reports(),
            mechanisms=tuple(MechanismReport(name) for name in MECHANISMS),
            inventory=Inventory("x86_64", cpu=machine.group.cpu, memory_bytes=machine.group.memory),
            gateway=f"http://{machine.name}:8080",
        )
        machine.link.publish(self._topics["up/reported"], encode(reported), 1, retain=True)

    def _telemetry(self) -> None:
        for urgency, payload in self._telemetry_source.measure(self.machine, self._life.now_s()):
            self.spool.add_batch(urgency, payload)
        interval_s = min([self.settings.telemetry_interval_s, *self.settings.telemetry_rates.values()])
        self._life.after(interval_s * 2**self.lease.load_level, self._telemetry)

    # The lease core.

    def _lease(self, event: leases.Event, now_s: float | None = None) -> None:
        for effect in self.lease.handle(event, self._life.now_s() if now_s is None else now_s):
            match effect:
                case leases.SendHeartbeat():
                    self._beat(effect)
                case leases.LeaseHeld():
                    self._reconcile(wanted.LeaseChanged(self._life.new_id(), effect.held))
                case leases.LeaseUntil():
                    self.machine.runtime.guard(effect.until_s)
                case leases.SawFence():
                    self._reconcile(wanted.FenceSeen(self._life.new_id(), effect.fence))
                case leases.WakeAt():
                    self._life.wake("lease", effect.at_s)
                case leases.Ignored():
                    self.refused += 1
                case leases.UseLoadLevel():
                    pass  # the next round of telemetry looks at `load_level`
                case _:
                    assert_never(effect)

    def _beat(self, effect: leases.SendHeartbeat) -> None:
        machine, desired = self.machine, self.reconciler.desired
        beat = Heartbeat(
            machine.uid,
            effect.session,
            machine.boot_id,
            effect.seq,
            desired.generation if desired else 0,
            desired.epoch if desired else 0,
            desired.digest if desired else "",
            0.0,
            self.spool.core.waiting,
            *self.reconciler.seen,
        )
        machine.link.publish(self._topics["up/hb"], encode(beat))

    # The wire.

    def link_up(self, session: str) -> None:
        """Beat, report, and send what waits."""
        self._lease(leases.LinkUp(self._life.new_id(), session))
        self._telemetry_source.redefine(self.machine)
        self.spool.link_changed(is_up=True)
        self._report_soon()

    def link_down(self) -> None:
        """Go on without."""
        self._lease(leases.LinkDown(self._life.new_id()))
        self.spool.link_changed(is_up=False)

    def received(self, message: Message) -> None:
        """Take a publication; what makes no sense is refused and counted."""
        handler = self._handlers.get(message.topic)
        message.ack()
        if handler is None:
            return
        try:
            handler(message.topic, message.payload)
        except ProtocolError:
            self.refused += 1

    def _desired(self, topic: str, payload: bytes) -> None:
        if payload:
            desired = open_desired(self._env.ring, payload, topic)
            self._reconcile(wanted.DesiredReceived(self._life.new_id(), desired, payload))

    def _leased(self, topic: str, payload: bytes) -> None:
        lease = decode(Lease, open_sealed(self._env.ring, payload, context=topic))
        self._lease(leases.LeaseReceived(self._life.new_id(), lease))

    def _acked(self, topic: str, payload: bytes) -> None:
        self.spool.acknowledged(decode(Ack, payload))

    def _hear_control_plane(self, topic: str, payload: bytes) -> None:
        state = decode(ControlPlaneState, payload)
        if state.online and state.session != self._peer:
            self._telemetry_source.redefine(self.machine)
            self.spool.peer_returned()
        self._peer = state.session

    def _spread(self, topic: str, payload: bytes) -> None:
        self.machine.link.spread_s = decode(Spread, payload).window_s
