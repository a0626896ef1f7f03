"""Where control planes run: processes that take turns at leading, and the operator who talks to whoever leads.

One holder is the rule; with two, the second takes over when the first is dead or has been frozen for so long that the
database ended its session, and the first finds out when its next commit is refused. `faults.py` kills and freezes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..descriptions.kinds import Kind
from ..descriptions.messages.codec import encode
from ..descriptions.messages.lease import ControlPlaneState, Spread
from ..descriptions.topics import control_plane_subscriptions, shared_topic
from ..telemetry.credentials import CONTROL_PLANE
from .clock import Clock
from .control import ControlPlane
from .link import Link, LinkOptions, Message, Presence
from .machine import Environment
from .packets import Will
from .store import RowKey, Store

TRY_S = 1.0
"""How often a process without the lead asks for it."""
SESSION_S = 10.0
"""A frozen leader's database session ends after this long."""
START_S = 3.0
"""From the start of the process to its asking for the lead."""
WRITE_TIMEOUT_S = 10.0
"""After that an operator asks again; the write may have happened or not."""
CONNECTS_PER_S = 50.0
"""What the broker is asked to take when everybody comes back."""


@dataclass(frozen=True)
class TryLead:
    """Ask for the lead; void in another life of the process."""

    life: int


class Holder:
    """A control plane's process, through its lives."""

    def __init__(self, env: Environment, store: Store, site: Site, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self._env = env
        self._store = store
        self._site = site
        options = LinkOptions(
            client=name,
            username=CONTROL_PLANE,
            subscriptions=tuple((one, 1) for one in control_plane_subscriptions(env.slice)),
            presence=self._presence,
        )
        self.link = Link(name, env.kernel, env.network, env.broker, options, self)
        self.plane: ControlPlane | None = None
        self.is_running = False
        self.is_frozen = False
        self.frozen_s = 0.0
        self._life = 0
        self._planes = 0

    def _presence(self, session: str) -> Presence:
        gone = ControlPlaneState(online=False, session=session)
        return Presence(Will(shared_topic(self._env.slice, "state"), encode(gone)))

    def start(self) -> None:
        """Start the process."""
        if not self.is_running:
            self.is_running = True
            self._life += 1
            self._env.kernel.after(START_S, self, TryLead(self._life))

    def kill(self) -> None:
        """SIGKILL."""
        self.is_running = self.is_frozen = False
        self._life += 1
        self._end("killed", gracefully=False)

    def freeze(self) -> None:
        """SIGSTOP, or a virtual machine that is moved."""
        if self.is_running and not self.is_frozen:
            self.is_frozen, self.frozen_s = True, self._env.kernel.now_s
            self.link.freeze()
            if self.plane is not None:
                self.plane.life.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self.is_frozen:
            self.is_frozen = False
            if self.plane is not None:
                self.plane.life.thaw()
            self.link.thaw()

    @property
    def leads(self) -> bool:
        """True while the database believes that this process leads."""
        kept = not self.is_frozen or self._env.kernel.now_s - self.frozen_s < SESSION_S
        return self.plane is not None and not self.plane.life.is_over and kept

    def handle(self, event: object) -> None:
        """Ask for the lead, again and again."""
        if not isinstance(event, TryLead) or event.life != self._life:
            return
        if self.plane is not None and self.plane.life.is_over:
            self._end("", gracefully=True)
        if self.plane is None and not self.is_frozen and not self._site.is_led:
            self._planes += 1
            self.plane = ControlPlane(self._env, self._store, self.clock, self.link, self.name, self._planes)
            self.plane.begin()
            self.link.start()
        self._env.kernel.after(TRY_S, self, TryLead(self._life))

    def _end(self, why: str, *, gracefully: bool) -> None:
        plane, self.plane = self.plane, None
        if plane is not None:
            plane.end(why)
            self.link.stop(gracefully=gracefully)

    # The link's owner.

    def link_up(self, session: str) -> None:
        """Tell everybody how to come back, and the core that the broker is there."""
        if self.plane is not None:
            spread = Spread(len(self.plane.core.membership.members) / CONNECTS_PER_S)
            self.link.publish(shared_topic(self._env.slice, "spread"), encode(spread), 1, retain=True)
            self._site.spread(spread.window_s)
            self.plane.link_up()

    def link_down(self, reason: str) -> None:
        """Tell the core."""
        if self.plane is not None:
            self.plane.link_down()

    def received(self, message: Message) -> None:
        """Tell the core."""
        if self.plane is not None:
            self.plane.received(message)


@dataclass(frozen=True)
class _Write:
    """An operator's write, tried until it is acknowledged."""

    kinds: tuple[Kind, ...]
    deletes: tuple[RowKey, ...]
    attempt: int = 0


class Site:
    """All control plane processes of the slice."""

    name = "operator"

    def __init__(
        self, env: Environment, store: Store, clocks: tuple[Clock, ...], spread: Callable[[float], None]
    ) -> None:
        """One process for each clock; `spread` is told the window over which reconnects are spread."""
        self._env = env
        self.spread = spread
        names = ("cp-a", "cp-b", "cp-c")
        self.holders = tuple(Holder(env, store, self, name, clock) for name, clock in zip(names, clocks, strict=False))
        self._done: set[int] = set()

    @property
    def is_led(self) -> bool:
        """True while somebody holds the lead."""
        return any(holder.leads for holder in self.holders)

    @property
    def leader(self) -> ControlPlane | None:
        """The control plane that answers the API now."""
        return next((one.plane for one in self.holders if one.leads and not one.is_frozen), None)

    def write(self, kinds: tuple[Kind, ...], deletes: tuple[RowKey, ...] = ()) -> None:
        """Write over the API until it is acknowledged, as an operator with patience does."""
        self.handle(_Write(kinds, deletes))

    def handle(self, event: object) -> None:
        """Try a write (again)."""
        if not isinstance(event, _Write) or id(event.kinds) in self._done:
            return
        leader = self.leader
        if leader is not None:
            leader.apply(event.kinds, event.deletes, lambda: self._done.add(id(event.kinds)))
        self._env.kernel.after(WRITE_TIMEOUT_S if leader else 1.0, self, event)
