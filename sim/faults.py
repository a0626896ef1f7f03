"""Breaks things on schedule and by chance, and heals them: the scenario's faults and, on top, a swarm drawn by seed.

A fault picks its targets when it strikes. `heal` ends everything that lasts, so that a run can ask whether all comes
right. In a swarm each seed draws a subset of the kinds and a rate for each, which finds more than all kinds at one rate
(Groce et al., "Swarm Testing", ISSTA 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, get_args

from ..descriptions.messages.codec import encode
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.topics import node_topic
from .machine import Machine
from .network import Quality
from .observed import FaultBegan, FaultEnded
from .scenario import ChaosOptions, FaultKind, FaultOptions, NetworkOptions, TargetOptions

if TYPE_CHECKING:
    from .world import World

RESTART_S = 2.0
"""A killed process is started again by its supervisor after this long at least."""


@dataclass(frozen=True)
class Strike:
    """A fault happens now; `again` if it is one of a rate."""

    fault: FaultOptions
    again: bool = False


@dataclass(frozen=True)
class Heal:
    """What a fault did ends."""

    number: int


@dataclass
class Active:
    """A fault that lasts."""

    fault: FaultOptions
    targets: tuple[str, ...]
    undo: Callable[[], None]


def quality(options: NetworkOptions) -> Quality:
    """A way's quality from its options."""
    return Quality((options.delay_min_s, options.delay_max_s), options.loss, options.duplicate, options.reorder)


class Faults:
    """The injector. Draws from a generator of its own, so that the faults of a seed are the same in every world."""

    name = "faults"

    def __init__(self, world: World, options: tuple[FaultOptions, ...], chaos: ChaosOptions) -> None:
        self._world = world
        self._random = Random(world.kernel.random.getrandbits(64))
        self._active: dict[int, Active] = {}
        self._number = 0
        self._is_over = False
        self.counts: dict[str, int] = {}
        kernel = world.kernel
        for fault in options:
            if fault.at_s is not None:
                kernel.at(fault.at_s, self, Strike(fault))
            else:
                self._plan(fault)
        for fault in self._swarm(chaos):
            self._plan(fault)

    def _plan(self, fault: FaultOptions) -> None:
        wait_s = self._random.expovariate(fault.per_hour / 3600)
        self._world.kernel.after(wait_s, self, Strike(fault, again=True))

    def _swarm(self, chaos: ChaosOptions) -> list[FaultOptions]:
        if not chaos.per_hour:
            return []
        random = self._random
        known: tuple[FaultKind, ...] = get_args(FaultKind)
        kinds: list[FaultKind] = [kind for kind in chaos.kinds or known if random.random() < 0.5]
        weights = [random.random() for _ in kinds]
        return [
            FaultOptions(
                kind=kind,
                per_hour=chaos.per_hour * weight / sum(weights),
                for_s=chaos.longest_s,
                targets=TargetOptions(count=random.randint(1, 3)),
                direction=random.choice(("both", "up", "down")),
                network=NetworkOptions(
                    0.01, random.choice((0.1, 1.0, 5.0)), *(0.3 * random.random() for _ in range(3))
                ),
                store=random.choice(("kept", "rolledBack", "wiped")),
                by_s=random.choice((-1, 1)) * 10 ** random.uniform(0, 8),
                rate=random.uniform(0.8, 1.2),
            )
            for kind, weight in zip(kinds, weights, strict=True)
        ]

    # Striking and healing.

    def handle(self, event: object) -> None:
        """Strike or heal."""
        if isinstance(event, Strike):
            if not self._is_over:
                self._strike(event.fault, chance=event.again)
                if event.again:
                    self._plan(event.fault)
        elif isinstance(event, Heal) and event.number in self._active:
            self._heal(event.number)

    def heal_all(self) -> None:
        """No more faults; what lasts ends now."""
        self._is_over = True
        for number in sorted(self._active):
            self._heal(number)

    @property
    def is_calm(self) -> bool:
        """True while nothing that lasts is broken."""
        return not self._active

    def _heal(self, number: int) -> None:
        active = self._active.pop(number)
        active.undo()
        self._world.note(FaultEnded(active.fault.kind, active.targets))

    def _strike(self, fault: FaultOptions, *, chance: bool) -> None:
        others = (one for one in self._active.values() if chance or one.fault.kind == fault.kind)
        busy = {name for active in others for name in active.targets}
        targets = [machine for machine in self._targets(fault.targets) if machine.name not in busy]
        struck = self._break(fault, targets)
        if struck is None:
            return
        names, undo = struck
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        self._world.note(FaultBegan(fault.kind, names))
        self._number += 1
        self._active[self._number] = Active(fault, names, undo)
        lasts_s = max(RESTART_S, fault.for_s * self._random.random()) if chance else fault.for_s
        self._world.kernel.after(lasts_s, self, Heal(self._number))

    def _targets(self, options: TargetOptions) -> list[Machine]:
        found = [
            machine
            for machine in self._world.machines
            if (not options.nodes or machine.name in options.nodes)
            and (not options.layers or machine.group.layer in options.layers)
            and (not options.datacenters or machine.group.datacenter in options.datacenters)
        ]
        if options.count == 0 or options.count >= len(found):
            return found
        return sorted(self._random.sample(found, options.count), key=lambda machine: machine.name)

    def _break(self, fault: FaultOptions, targets: list[Machine]) -> tuple[tuple[str, ...], Callable[[], None]] | None:
        """Do it; whom it hit and how to undo it, or None when there is nobody left to hit."""
        whole = {
            "brokerCrash": self._break_broker,
            "controlPlaneKill": self._kill_control_plane,
            "controlPlanePause": self._pause_control_plane,
            "storeRestore": self._restore_store,
        }
        if fault.kind in whole:
            undo = None if fault.kind in self._active_kinds() else whole[fault.kind](fault)
            return None if undo is None else ((), undo)
        one = {
            "partition": self._partition,
            "degrade": self._degrade,
            "powerCut": self._cut_power,
            "agentKill": self._kill_agent,
            "agentPause": self._pause_agent,
            "clockJump": self._jump_clock,
            "clockRate": self._rate_clock,
            "diskRot": self._rot_disk,
            "replicaCrash": self._crash_replica,
            "impostor": self._impersonate,
        }[fault.kind]
        if not targets:
            return None
        undos = [one(fault, machine) for machine in targets]

        def undo_all() -> None:
            for undo_one in undos:
                undo_one()

        return tuple(machine.name for machine in targets), undo_all

    def _active_kinds(self) -> set[str]:
        return {active.fault.kind for active in self._active.values()}

    # Nodes.

    def _partition(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        up, down = fault.direction in ("both", "up"), fault.direction in ("both", "down")
        self._world.network.block(machine.name, up=up, down=down)
        return lambda: self._world.network.block(machine.name, up=False, down=False)

    def _degrade(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        path, bad = self._world.network.path(machine.name), quality(fault.network)
        path.up.quality = path.down.quality = bad

        def undo() -> None:
            path.up.quality = path.down.quality = quality(machine.group.network)

        return undo

    def _cut_power(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        machine.cut_power()
        return machine.restore_power

    def _kill_agent(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        machine.kill_agent()
        return machine.start_agent

    def _pause_agent(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        machine.freeze_agent()
        return machine.thaw_agent

    def _jump_clock(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        if self._world.has_wall_faults:
            machine.clock.wall_offset_s += fault.by_s
        return lambda: None

    def _rate_clock(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        before = machine.clock.rate
        machine.set_clock_rate(fault.rate)
        return lambda: machine.set_clock_rate(before)

    def _rot_disk(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        """A bit flips in one of the node's files, which is noticed at the next start of the agent."""
        machine.disk.rot(self._random)
        machine.kill_agent()
        return machine.start_agent

    def _crash_replica(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        machine.runtime.crash_one()
        return lambda: None

    def _impersonate(self, fault: FaultOptions, machine: Machine) -> Callable[[], None]:
        """A node that was broken into claims to be another: on the other's topics, and on its own."""
        victim = self._random.choice([one for one in self._world.machines if one is not machine] or [machine])
        slice_name = machine.env.slice
        lie = encode(Heartbeat(victim.uid, victim.link.session, victim.boot_id, 1 << 30))
        machine.link.publish(node_topic(slice_name, victim.uid, "up/hb"), lie)
        machine.link.publish(node_topic(slice_name, machine.uid, "up/hb"), lie)
        machine.link.publish(node_topic(slice_name, victim.uid, "down/desired"), b"{}", 1, retain=True)
        return lambda: None

    # The middle.

    def _break_broker(self, fault: FaultOptions) -> Callable[[], None] | None:
        self._world.broker.stop()
        return lambda: self._world.broker.start(fault.store)

    def _kill_control_plane(self, fault: FaultOptions) -> Callable[[], None] | None:
        holder = next((one for one in self._world.site.holders if one.is_running and one.plane is not None), None)
        if holder is None:
            return None
        holder.kill()
        return holder.start

    def _pause_control_plane(self, fault: FaultOptions) -> Callable[[], None] | None:
        holder = next((one for one in self._world.site.holders if one.leads and not one.is_frozen), None)
        if holder is None:
            return None
        holder.freeze()
        return holder.thaw

    def _restore_store(self, fault: FaultOptions) -> Callable[[], None] | None:
        """An operator puts back the newest backup: everybody who might lead is stopped first."""
        if not self._world.store.backups:
            return None
        for holder in self._world.site.holders:
            holder.kill()
        self._world.store.restore()

        def undo() -> None:
            for holder in self._world.site.holders:
                holder.start()

        return undo
