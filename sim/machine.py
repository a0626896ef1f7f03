"""One simulated node: a machine with clocks, disks and runners, on which an agent lives, dies and starts again.

`world.py` makes machines from the scenario's fleet, `faults.py` cuts their power, kills and freezes their agents and
turns their clocks; what an agent does in a life is `agent.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..descriptions.messages.codec import encode
from ..descriptions.messages.reported import State
from ..descriptions.topics import node_topic, shared_topic
from .broker import Broker
from .clock import Clock
from .disk import Disk, Journal
from .kernel import Kernel
from .link import Link, LinkOptions, Message, Presence
from .network import Network
from .observed import AgentEnded, Fact, LinkFact
from .packets import Publish, Will
from .runtime import Runtime
from .scenario import GroupOptions, ReplicaOptions
from .sealing import MacRing


@dataclass(frozen=True)
class Environment:
    """What all machines of a run share."""

    kernel: Kernel
    network: Network
    broker: Broker
    note: Callable[[Fact], None]
    slice: str
    ring: MacRing
    replicas: ReplicaOptions
    keeps_sessions: bool = False
    """Whether the broker keeps agents' sessions, so that old messages come again after a reconnect."""
    documents: set[bytes] = field(default_factory=set)
    """Every sealed document that a control plane ever sent: what an agent may start from."""
    large: dict[str, bytes] = field(default_factory=dict)
    """URL → sealed document too large for the wire."""


class Process(Protocol):
    """A life of an agent."""

    def begin(self) -> None:
        """Start, from the disk."""

    def end(self) -> None:
        """Nothing that is still on the agenda concerns it any more."""

    def freeze(self) -> None:
        """SIGSTOP."""

    def thaw(self) -> None:
        """SIGCONT."""

    def clock_changed(self) -> None:
        """The machine's clock runs at another rate."""

    def link_up(self, session: str) -> None:
        """The link is connected."""

    def link_down(self) -> None:
        """The link is not connected any more."""

    def received(self, message: Message) -> None:
        """A publication came."""


@dataclass(frozen=True)
class Boot:
    """The agent starts; void if the machine lost power again meanwhile."""

    number: int


class Machine:
    """Hardware, and the agent on it if it runs."""

    def __init__(
        self, env: Environment, name: str, uid: str, group: GroupOptions, make_agent: Callable[[Machine], Process]
    ) -> None:
        random = env.kernel.random
        self.env = env
        self.name = name
        self.uid = uid
        self.group = group
        drift = group.clock_drift
        self.clock = Clock(random.uniform(1 - drift, 1 + drift), boot_age_s=random.uniform(10.0, 1e5))
        self.disk = Disk(torn_rate=group.bad_disk)
        self.database = Journal()
        self.runtime = Runtime(name, env.kernel, self.clock, env.replicas, env.note)
        self.boot_id = f"{random.getrandbits(64):016x}"
        self.has_power = True
        self.is_frozen = False
        self.agent: Process | None = None
        self._make_agent = make_agent
        self._boots = 0
        self._broker_key = node_topic(env.slice, uid, "up/state")
        options = LinkOptions(
            client=uid,
            username=uid,
            subscriptions=(
                (node_topic(env.slice, uid, "down/#"), 1),
                (shared_topic(env.slice, "state"), 1),
                (shared_topic(env.slice, "spread"), 1),
            ),
            presence=self._presence,
            clean=not env.keeps_sessions,
        )
        self.link = Link(name, env.kernel, env.network, env.broker, options, self)

    def _presence(self, session: str) -> Presence:
        gone = State(self.uid, session, online=False, boot_id=self.boot_id)
        here = State(self.uid, session, online=True, boot_id=self.boot_id, agent_version="sim")
        topic = self._broker_key
        return Presence(Will(topic, encode(gone)), Publish(topic, encode(here), 1, True, 0, self.uid))

    # What is done to it.

    def start_agent(self) -> None:
        """Start the agent's process if the machine is on and it does not run."""
        if self.has_power and self.agent is None:
            self.agent = self._make_agent(self)
            self.agent.begin()
            self.link.start()

    def kill_agent(self) -> None:
        """SIGKILL: the kernel closes its socket, replicas run on."""
        self._end_agent(power=False)

    def stop_agent(self) -> None:
        """SIGTERM: it says farewell."""
        if self.agent is not None:
            gone = State(self.uid, self.link.session, online=False, boot_id=self.boot_id, clean=True)
            self.link.publish(self._broker_key, encode(gone), 1, retain=True)
            self.link.stop(gracefully=True)
            self._end_agent(power=False)

    def cut_power(self) -> None:
        """Everything stops at once; what was not synced may be lost."""
        if not self.has_power:
            return
        self.has_power = False
        self._boots += 1
        self._end_agent(power=True)
        self.runtime.power_lost()
        self.disk.crash(self.env.kernel.random)
        self.database.crash(self.env.kernel.random)

    def restore_power(self) -> None:
        """Boot; the agent starts when that is done."""
        if self.has_power:
            return
        self.has_power = True
        self.clock.reboot(self.env.kernel.now_s)
        self.boot_id = f"{self.env.kernel.random.getrandbits(64):016x}"
        self.env.kernel.after(self.group.boot_s, self, Boot(self._boots))

    def freeze_agent(self) -> None:
        """SIGSTOP."""
        if self.agent is not None and not self.is_frozen:
            self.is_frozen = True
            self.link.freeze()
            self.agent.freeze()

    def thaw_agent(self) -> None:
        """SIGCONT."""
        if self.agent is not None and self.is_frozen:
            self.is_frozen = False
            self.agent.thaw()
            self.link.thaw()

    def set_clock_rate(self, rate: float) -> None:
        """The monotonic clock runs faster or slower from now on."""
        self.clock.set_rate(rate, self.env.kernel.now_s)
        self.runtime.clock_changed()
        if self.agent is not None:
            self.agent.clock_changed()

    def _end_agent(self, *, power: bool) -> None:
        agent, self.agent = self.agent, None
        if agent is None:
            return
        agent.end()
        self.is_frozen = False
        self.link.stop(gracefully=False, power_lost=power)
        self.env.note(AgentEnded(self.name, power))

    # What happens to it.

    def handle(self, event: object) -> None:
        """Take a deadline."""
        if isinstance(event, Boot) and event.number == self._boots:
            self.start_agent()

    def link_up(self, session: str) -> None:
        """Tell the agent."""
        self.env.note(LinkFact(self.name, True))
        if self.agent is not None:
            self.agent.link_up(session)

    def link_down(self, reason: str) -> None:
        """Tell the agent."""
        self.env.note(LinkFact(self.name, False))
        if self.agent is not None:
            self.agent.link_down()

    def received(self, message: Message) -> None:
        """Tell the agent."""
        if self.agent is not None:
            self.agent.received(message)
