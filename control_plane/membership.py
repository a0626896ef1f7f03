"""Which nodes are alive: heartbeats, births, wills and silence in; leases, phases and alarms out.

Every heartbeat of a node's present session is answered by a lease. A node that misses three, or whose will arrives, is
`suspect` (nothing new is placed there); when its lease is over it is `lost`, or `left` if it said farewell. What
becomes of its replicas is `reconcile.py`'s; this core only says whether they may be touched (`is_held`). It gives no
verdict while the broker does not echo the control plane's own canary, and after a start or an outage it waits for the
longest lease before it calls anyone lost. Called by `core.py`; the reasons are in `docs/failover.md`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from ..descriptions.kinds.slice import Failover, Timings
from ..descriptions.messages.lease import Heartbeat, Lease
from .effects import Effect, Happening, SendCanary, SendLease, Tell, Timer, WakeAt
from .inputs import CanaryEchoed, Event, HeartbeatSeen, LinkChanged, LoadMeasured, StateSeen, TimerFired
from .sessions import Sessions
from .storm import StormBegan, StormBrake, StormChange, StormEnded

SUSPECT_BEATS = 3
"""Missed heartbeats that make a node suspect."""
CANARY_BEATS = 2.5
"""Canary intervals without an echo after which the broker, not the nodes, is to blame."""
CANARY_S_MIN, CANARY_S_MAX = 0.25, 5.0
FLAPS = 3
"""A node that stopped being ready this often within `FLAP_WINDOW_S` has to be steady before it is ready again."""
FLAP_WINDOW_S = 600.0
DEPARTED_MAX = 10_000
"""Nodes that are gone whose last lease is remembered."""
SETTLE_BEATS = 6
"""How many heartbeat intervals of steadiness that takes: 30 s at the default of 5 s."""

Phase = Literal["expected", "ready", "suspect", "lost", "left"]


class Trigger(Enum):
    """What can change a node's phase."""

    HEARD = "heard"
    HEARD_FLAPPING = "heard, but it flaps"
    SETTLED = "steady long enough"
    WILLED = "the broker told of its disconnection"
    SILENT = "three heartbeats missed"
    EXPIRED = "lease over"
    EXPIRED_CLEAN = "lease over after a farewell"


TRANSITIONS: dict[tuple[Phase, Trigger], Phase] = {
    ("expected", Trigger.HEARD): "ready",
    ("ready", Trigger.WILLED): "suspect",
    ("ready", Trigger.SILENT): "suspect",
    ("ready", Trigger.EXPIRED): "lost",
    ("ready", Trigger.EXPIRED_CLEAN): "left",
    ("suspect", Trigger.HEARD): "ready",
    ("suspect", Trigger.SETTLED): "ready",
    ("suspect", Trigger.EXPIRED): "lost",
    ("suspect", Trigger.EXPIRED_CLEAN): "left",
    ("lost", Trigger.HEARD): "ready",
    ("lost", Trigger.HEARD_FLAPPING): "suspect",
    ("left", Trigger.HEARD): "ready",
    ("left", Trigger.HEARD_FLAPPING): "suspect",
}
"""Pairs that are not here change nothing."""


@dataclass(frozen=True)
class PhaseChanged(Effect):
    """A node's phase is another now; `core.py` writes it down and looks at the node's replicas."""

    uid: str
    before: Phase
    phase: Phase
    reason: str


@dataclass(frozen=True)
class HeldChanged(Effect):
    """A storm began or ended: replicas of these nodes are to be looked at again."""

    sites: tuple[str, ...]


@dataclass
class Member:
    """One joined node."""

    uid: str
    name: str
    timings: Timings
    sites: tuple[str, ...]
    phase: Phase = "expected"
    sessions: Sessions = field(default_factory=Sessions)
    heard_s: float = 0.0
    """Last sign of life."""
    granted_s: float = 0.0
    """Last lease granted; the time of start where that isn't known."""
    gone_s: float = 0.0
    """When it became lost or left."""
    steady_s: float | None = None
    """Since when heartbeats have come without a gap; None while it is away."""
    said_farewell: bool = False
    flaps: deque[float] = field(default_factory=lambda: deque(maxlen=FLAPS))
    """When it last stopped being ready."""

    @property
    def suspect_after_s(self) -> float:
        """Silence that makes it suspect, seconds."""
        return SUSPECT_BEATS * self.timings.heartbeat

    def is_flapping(self, now_s: float) -> bool:
        """True when it has to prove itself before it is ready again."""
        return len(self.flaps) == FLAPS and self.flaps[0] > now_s - FLAP_WINDOW_S and not self.has_settled(now_s)

    def has_settled(self, now_s: float) -> bool:
        """True when it has been steady for long enough."""
        return self.steady_s is not None and now_s >= self.steady_s + SETTLE_BEATS * self.timings.heartbeat

    def is_audible(self, now_s: float) -> bool:
        """True while its present session is heard."""
        return bool(self.sessions.current) and now_s < self.heard_s + self.suspect_after_s


@dataclass
class Membership:
    """All joined nodes. `fence` and `epoch` go into every lease."""

    fence: int = 0
    epoch: int = 0
    load_level: int = 0
    failover: Failover = field(default_factory=Failover)
    members: dict[str, Member] = field(default_factory=dict)
    brake: StormBrake = field(default_factory=StormBrake)
    may_grant: Callable[[Heartbeat], bool] = lambda heartbeat: True
    """Whether the node may have a lease; not as long as it may run a single instance that was placed elsewhere."""
    departed: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Uid that is gone → its last lease: when it was granted, and how long it is; the newest few."""
    started_s: float = 0.0
    trusted_s: float | None = None
    """Since when the canary has been heard without a gap; None while blind."""
    echoed_s: float = 0.0
    canary_seq: int = 0

    def configure(self, failover: Failover) -> None:
        """Take over the slice's timings."""
        self.failover = failover
        self.brake.share = failover.storm_share
        self.brake.window_s = 2 * self.lease_s_max

    def timings_for(self, layer: str) -> Timings:
        """Heartbeat and lease of nodes of a layer."""
        found = {str(name): timings for name, timings in self.failover.layers.items()}
        return found.get(layer, self.failover)

    @property
    def lease_s_max(self) -> float:
        """The longest lease of the slice."""
        return max(timings.lease for timings in (self.failover, *self.failover.layers.values()))

    @property
    def canary_s(self) -> float:
        """Seconds between two canaries: fast enough to know of a dead broker before any node is suspect."""
        shortest = min(timings.heartbeat for timings in (self.failover, *self.failover.layers.values()))
        return min(max(shortest / 2, CANARY_S_MIN), CANARY_S_MAX)

    def start(self, event_id: str, now_s: float) -> list[Effect]:
        """Begin to listen; nobody is lost for the length of the longest lease."""
        self.started_s = now_s
        return [WakeAt(event_id, now_s, Timer("canary"))]

    def learn(
        self, uid: str, name: str, layer: str, sites: tuple[str, ...], phase: Phase, *, evicted: bool, now_s: float
    ) -> None:
        """Know a node from its row, new or changed. `evicted`: its replicas stand elsewhere already."""
        member = self.members.get(uid)
        if member is None:
            member = Member(uid, name, self.timings_for(layer), sites, phase)
            member.heard_s = member.granted_s = member.gone_s = now_s
            self.members[uid] = member
            if phase in ("suspect", "lost"):
                self.brake.vanished(uid, sites, float("-inf") if evicted else now_s)
        elif member.sites != sites:
            self.brake.gone(uid)
        member.name, member.timings, member.sites = name, self.timings_for(layer), sites
        if member.phase == "ready":
            self.brake.present(uid, sites)

    def forget(self, uid: str) -> None:
        """The node was deleted, or joined again under another uid."""
        member = self.members.pop(uid, None)
        if member is not None:
            self.departed[uid] = (member.granted_s, member.timings.lease)
            while len(self.departed) > DEPARTED_MAX:
                del self.departed[next(iter(self.departed))]
        self.brake.gone(uid)

    def last_lease(self, uid: str) -> tuple[float, float]:
        """When a node got its last lease, and how long that is; the worst where it isn't known."""
        member = self.members.get(uid)
        if member is not None:
            return member.granted_s, member.timings.lease
        return self.departed.get(uid, (self.started_s, self.lease_s_max))

    def is_held(self, uid: str) -> bool:
        """True while the node's replicas must not be replaced: its site is in a storm."""
        return self.brake.is_held(uid)

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Take in one event; events of no concern to this core cause nothing."""
        match event:
            case HeartbeatSeen():
                return self._heartbeat(event, now_s)
            case StateSeen():
                return self._state(event, now_s)
            case CanaryEchoed():
                return self._echo(event, now_s)
            case LinkChanged():
                self.trusted_s = None
                return [WakeAt(event.id, now_s, Timer("canary"))] if event.connected else []
            case LoadMeasured():
                self.load_level = event.level
                return []
            case TimerFired(timer=Timer("canary")):
                return self._canary(event, now_s)
            case TimerFired(timer=Timer("node", uid)) if uid in self.members:
                return self._check(self.members[uid], event.id, now_s)
            case _:
                return []

    def _heartbeat(self, event: HeartbeatSeen, now_s: float) -> list[Effect]:
        beat = event.heartbeat
        member = self.members.get(beat.node)
        if member is None or not member.sessions.beat(beat.session, beat.seq, beat.boot_id):
            return []
        effects = self._heard(member, event.id, now_s)
        if self.may_grant(beat):
            member.granted_s = now_s
            lease = Lease(
                beat.node, beat.session, beat.seq, member.timings.lease, self.fence, self.epoch, self.load_level
            )
            effects.append(SendLease(event.id, lease))
        return effects

    def _state(self, event: StateSeen, now_s: float) -> list[Effect]:
        state = event.state
        member = self.members.get(state.node)
        if member is None:
            return []
        if state.online:
            return self._heard(member, event.id, now_s) if member.sessions.born(state.session, state.boot_id) else []
        if not member.sessions.willed(state.session):
            return []
        member.said_farewell = state.clean
        return [] if state.clean else self._move(member, Trigger.WILLED, event.id, now_s)

    def _heard(self, member: Member, event_id: str, now_s: float) -> list[Effect]:
        if member.steady_s is None or now_s >= member.heard_s + member.suspect_after_s:
            member.steady_s = now_s
        is_armed = member.phase == "ready" and not member.said_farewell
        member.heard_s, member.said_farewell = now_s, False
        if is_armed:
            return []  # its timer runs and will look at `heard_s`
        flapping = member.is_flapping(now_s)
        trigger = Trigger.HEARD_FLAPPING if flapping else Trigger.HEARD
        return [*self._move(member, trigger, event_id, now_s), *self._arm(member, event_id, now_s)]

    def _canary(self, event: Event, now_s: float) -> list[Effect]:
        self.canary_seq += 1
        if self.trusted_s is not None and not self._is_fresh(now_s):
            self.trusted_s = None
        return [SendCanary(event.id, self.canary_seq), WakeAt(event.id, now_s + self.canary_s, Timer("canary"))]

    def _echo(self, event: CanaryEchoed, now_s: float) -> list[Effect]:
        self.echoed_s = now_s
        if self.trusted_s is not None:
            return []
        self.trusted_s = now_s
        return [wake for _, member in sorted(self.members.items()) for wake in self._arm(member, event.id, now_s)]

    def _is_fresh(self, now_s: float) -> bool:
        return now_s - self.echoed_s <= CANARY_BEATS * self.canary_s

    def _check(self, member: Member, event_id: str, now_s: float) -> list[Effect]:
        if self.trusted_s is None:
            return []  # the echo that ends the outage arms the timer again
        if not self._is_fresh(now_s):
            return [WakeAt(event_id, now_s + self.canary_s, Timer("node", member.uid))]
        effects: list[Effect] = []
        if now_s >= self._lost_at_s(member):
            trigger = Trigger.EXPIRED_CLEAN if member.said_farewell else Trigger.EXPIRED
            effects = self._move(member, trigger, event_id, now_s)
        elif now_s >= self._suspect_at_s(member):
            effects = self._move(member, Trigger.SILENT, event_id, now_s)
        elif member.is_audible(now_s) and not member.is_flapping(now_s):
            effects = self._move(member, Trigger.SETTLED, event_id, now_s)
        return [*effects, *self._arm(member, event_id, now_s)]

    def _suspect_at_s(self, member: Member) -> float:
        assert self.trusted_s is not None
        silent_s = max(member.heard_s, self.trusted_s) + member.suspect_after_s
        return self._lost_at_s(member) if member.said_farewell else silent_s

    def _lost_at_s(self, member: Member) -> float:
        assert self.trusted_s is not None
        return max(member.heard_s + member.timings.lease, max(self.trusted_s, self.started_s) + self._grace_s(member))

    def _grace_s(self, member: Member) -> float:
        # A member that was heard since the outage has a lease of its own; the others may still be on their way back.
        assert self.trusted_s is not None
        return 0.0 if member.heard_s > self.trusted_s else self.lease_s_max

    def _arm(self, member: Member, event_id: str, now_s: float) -> list[Effect]:
        if self.trusted_s is None or member.phase not in ("ready", "suspect"):
            return []
        at_s = self._suspect_at_s(member) if member.phase == "ready" else self._lost_at_s(member)
        if member.phase == "suspect" and member.is_audible(now_s) and member.steady_s is not None:
            settled_s = member.steady_s + SETTLE_BEATS * member.timings.heartbeat
            at_s = min(at_s, max(settled_s, now_s + self.canary_s))
        return [WakeAt(event_id, max(at_s, now_s), Timer("node", member.uid))]

    def _move(self, member: Member, trigger: Trigger, event_id: str, now_s: float) -> list[Effect]:
        before = member.phase
        phase = TRANSITIONS.get((before, trigger))
        if phase is None:
            return []
        member.phase = phase
        if before == "ready":
            member.flaps.append(now_s)
            member.steady_s = None
        if phase in ("lost", "left"):
            member.gone_s = now_s
        changed = PhaseChanged(event_id, member.uid, before, phase, trigger.value)
        return [changed, *self._told(self._braked(member, phase, now_s), event_id, now_s)]

    def _braked(self, member: Member, phase: Phase, now_s: float) -> list[StormChange]:
        if phase == "ready":
            return self.brake.present(member.uid, member.sites)
        if phase == "left":
            return self.brake.gone(member.uid)
        return self.brake.vanished(member.uid, member.sites, now_s)

    def _told(self, changes: Iterable[StormChange], event_id: str, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for change in changes:
            if isinstance(change, StormEnded):
                self._spare(change.site, now_s)
            effects += [Tell(event_id, _alarm(change)), HeldChanged(event_id, (change.site,))]
        return effects

    def _spare(self, site: str, now_s: float) -> None:
        """The rest of a site that comes back gets one more lease to do so."""
        for member in self.members.values():
            if site in member.sites and member.phase in ("lost", "left"):
                member.gone_s = max(member.gone_s, now_s + member.timings.lease)


def _alarm(change: StormChange) -> Happening:
    kind, _, name = change.site.partition(":")
    if isinstance(change, StormBegan):
        told = (
            f"{change.vanished} of {change.nodes} nodes of {change.site} vanished together: nothing is placed "
            "elsewhere until they are back; delete or drain nodes that are gone for good"
        )
        return Happening("SiteStorm", told, kind.capitalize(), name, "warning")
    return Happening(
        "SiteStormOver", f"{change.missing} nodes of {change.site} are still away", kind.capitalize(), name
    )
