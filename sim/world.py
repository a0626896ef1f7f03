"""One run: fleet, wire, control planes, faults and the eye that sees all, built from a scenario and a seed.

`run.py` steps it and makes a `Result` of it. After every step the invariants are told what became true in it; the first
violation ends the run with its story.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.kinds import Datacenter, Kind, Node
from ..descriptions.kinds.inventory import DatacenterSpec
from ..descriptions.kinds.meta import Layer, Metadata
from ..descriptions.kinds.node import Hardware, NodeSpec, NodeStatus
from ..telemetry.acl import Acl
from .agent import Agent
from .broker import Access, Broker
from .clock import Clock
from .faults import Faults, quality
from .invariants import CHECKS, Check, Ledger, Violation
from .kernel import Kernel
from .load import Traffic
from .machine import Boot, Environment, Machine
from .network import Network
from .observed import Connected, Fact, SettleOver, StoreOpened, Tick
from .scenario import ChangeOptions, GroupOptions, LoadedScenario
from .sealing import MacKey, MacRing
from .site import Site
from .store import Store, Stored
from .trace import Trace

TICK_S = 5.0
BACKUP_S = 300.0
FIRST_WRITE_S = 1.0


@dataclass(frozen=True)
class Sample:
    """The state of the run at a moment, for the plot."""

    at_s: float
    nodes_up: int
    nodes_ready: int
    """By the control plane's verdict."""
    components: dict[str, tuple[int, int]]
    """Replicas wanted and serving, by `application.component`."""
    leads: bool
    broker_up: bool

    @property
    def wanted(self) -> int:
        """Over all components."""
        return sum(wanted for wanted, _ in self.components.values())

    @property
    def ready(self) -> int:
        """Over all components."""
        return sum(ready for _, ready in self.components.values())


@dataclass(frozen=True)
class ChangeDue:
    """An operator does something."""

    change: ChangeOptions
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Pulse:
    """Something regular is due."""

    what: str


class World:
    """A scenario come to life. `step` until `is_over`."""

    name = "world"

    def __init__(
        self,
        loaded: LoadedScenario,
        seed: int,
        *,
        has_wall_faults: bool = True,
        keeps_facts: bool = False,
        checks: tuple[Check, ...] = tuple(CHECKS),
    ) -> None:
        """`has_wall_faults` false leaves clock jumps out and everything else as it is (I18)."""
        self.loaded = loaded
        self.has_wall_faults = has_wall_faults
        scenario = loaded.scenario
        self.kernel = Kernel(seed)
        self.trace = Trace(keeps_facts=keeps_facts)
        self.network = Network(self.kernel)
        slice_name = loaded.slice.metadata.name
        self.broker = Broker(self.kernel, self.network, _access(slice_name), scenario.broker_save_s)
        self.store = Store(self.kernel, self.note)
        env = Environment(
            self.kernel,
            self.network,
            self.broker,
            self.note,
            slice_name,
            MacRing({}, MacKey()),
            scenario.replicas,
            scenario.keep_sessions,
        )
        self.ledger = self._ledger()
        self._checks: dict[type[Fact], tuple[Check, ...]] = {
            fact: tuple(check for check in checks if fact in check.facts)
            for fact in {fact for check in checks for fact in check.facts}
        }
        self._fresh: list[Fact] = []
        self.violation: Violation | None = None
        self.samples: list[Sample] = []
        self.settled_s: float | None = None
        """When everything had come right after the last fault."""
        self.is_settling = False
        self.machines = self._fleet(env)
        self._of_name = {machine.name: machine for machine in self.machines}
        loads = {f"{load.application}.{load.component}": load for load in scenario.load}
        self.traffic = Traffic(loads, self.machines, lambda: self.kernel.now_s)
        drift, random = scenario.control_plane_clock_drift, self.kernel.random
        clocks = tuple(
            Clock(random.uniform(1 - drift, 1 + drift), random.uniform(100.0, 1e5))
            for _ in range(scenario.control_planes)
        )
        self.site = Site(env, self.store, clocks, self._spread)
        self.faults = Faults(self, scenario.faults, scenario.chaos)
        self._begin()

    # Making.

    def _ledger(self) -> Ledger:
        replicas = self.loaded.scenario.replicas
        limit_s = 30.0 + replicas.fetch_s + replicas.start_max_s
        failover = self.loaded.slice.spec.failover
        ledger = Ledger(failover, restart_limit_s=limit_s, missing_good=self._missing, shrinks=self._shrinks)
        for group in self.loaded.scenario.fleet:
            site = (f"datacenter:{group.datacenter}",) if group.datacenter else ()
            ledger.sites |= dict.fromkeys(_names(group), (*site, "slice"))
        return ledger

    def _fleet(self, env: Environment) -> tuple[Machine, ...]:
        machines = []
        for group in self.loaded.scenario.fleet:
            for name in _names(group):
                machine = Machine(env, name, f"uid-{name}", group, self._agent)
                path = self.network.path(name)
                path.up.quality = path.down.quality = quality(group.network)
                machines.append(machine)
        return tuple(machines)

    def _agent(self, machine: Machine) -> Agent:
        return Agent(machine, self.traffic)

    def _begin(self) -> None:
        """Everybody has joined before; the applications are applied once a control plane leads."""
        groups = {group.name: group for group in self.loaded.scenario.fleet}
        rows: list[Kind] = [self.loaded.slice]
        rows += [kind for kind in self.loaded.kinds if kind.kind not in ("Slice", "Application")]
        rows += [_datacenter(name) for name in sorted({group.datacenter for group in groups.values()} - {""})]
        rows += [_node(machine) for machine in self.machines]
        for kind in rows:
            self.store.contents.rows[kind.kind, kind.metadata.name] = Stored(kind, 0)
        self.store.capacity = {
            one.uid: (one.name, round(one.group.cpu * 1000), one.group.memory) for one in self.machines
        }
        self.broker.connected = lambda client: self.note(Connected(client))
        for holder in self.site.holders:
            holder.start()
        for machine in self.machines:
            self.kernel.after(self.kernel.random.uniform(0.0, 5.0), machine, Boot(0))
        self.kernel.after(FIRST_WRITE_S, self, ChangeDue(ChangeOptions(FIRST_WRITE_S), self.loaded.applications))
        for change, kinds in zip(self.loaded.scenario.changes, self.loaded.changes, strict=True):
            self.kernel.at(change.at_s, self, ChangeDue(change, kinds))
        for pulse in ("tick", "backUp", *(("sample",) if self.trace.keeps_facts else ())):
            self.kernel.after(0.0, self, Pulse(pulse))

    # Running.

    @property
    def is_over(self) -> bool:
        """True after a violation, and once everything has come right after the faults or should have."""
        scenario = self.loaded.scenario
        end_s = scenario.duration_s + scenario.settle_s
        return self.violation is not None or self.settled_s is not None or self.kernel.now_s >= end_s

    def step(self) -> None:
        """Let the next thing happen and look whether all that must hold does."""
        actor, event = self.kernel.step()
        self.trace.step(self.kernel.now_s, actor.name, event)
        if self._fresh:
            self._look()

    def note(self, fact: Fact) -> None:
        """Something became true."""
        self._fresh.append(fact)
        self.trace.fact(self.kernel.now_s, fact)

    def _look(self) -> None:
        self.ledger.now_s = self.kernel.now_s
        fresh, self._fresh = self._fresh, []
        for fact in fresh:
            for check in self._checks.get(type(fact), ()):
                problem = check.function(self.ledger, fact)
                if problem and self.violation is None:
                    story = tuple(self.trace.story((*fact.about, *self.trace.mentioned(problem))))
                    kernel = self.kernel
                    self.violation = Violation(
                        check.name, check.title, problem, kernel.seed, kernel.steps, kernel.now_s, story
                    )

    def handle(self, event: object) -> None:
        """What is regular, and what operators do."""
        match event:
            case Pulse(what="tick"):
                self.note(Tick())
                self._settle()
                self.kernel.after(TICK_S, self, event)
            case Pulse(what="sample"):
                self.samples.append(self._sample())
                self.kernel.after(self.loaded.scenario.duration_s / 400, self, event)
            case Pulse():
                self.store.back_up()
                self.kernel.after(BACKUP_S, self, event)
            case ChangeDue(change=change, kinds=kinds):
                self._change(change, kinds)
            case _:
                raise TypeError(event)

    def _change(self, change: ChangeOptions, kinds: tuple[Kind, ...]) -> None:
        deletes = tuple((kind, name) for kind, _, name in (one.partition("/") for one in change.delete))
        nodes = [
            *(self._steered(name, {"cordoned": True}) for name in change.cordon),
            *(self._steered(name, {"drained": True}) for name in change.drain),
            *(self._steered(name, {"cordoned": False, "drained": False}) for name in change.uncordon),
        ]
        self.site.write((*kinds, *nodes), deletes)

    def _steered(self, name: str, spec: dict[str, bool]) -> Node:
        node = self.store.contents.rows["Node", name].value
        assert isinstance(node, Node), name
        return node.model_copy(update={"spec": node.spec.model_copy(update=spec)})

    def _spread(self, window_s: float) -> None:
        self.ledger.spread_s = max(window_s, 1.0)

    # Coming right.

    def _settle(self) -> None:
        scenario, now_s = self.loaded.scenario, self.kernel.now_s
        if now_s < scenario.duration_s:
            return
        if not self.is_settling:
            self.is_settling = True
            self.faults.heal_all()
        wrong = self.wrong()
        if not wrong:
            self.settled_s = now_s
            self._audit()
        elif now_s + TICK_S >= scenario.duration_s + scenario.settle_s:
            self.note(SettleOver(tuple(text for _, text in wrong[:5]), tuple(key for key, _ in wrong[:5])))

    def _audit(self) -> None:
        contents = self.store.contents
        versions = {key: stored.version for key, stored in contents.rows.items()}
        self.note(StoreOpened(versions, dict(contents.positions)))

    def wrong(self) -> list[tuple[str, str]]:
        """What is not as it should be: whose story to read, and a sentence."""
        leader = self.site.leader
        if leader is None or not self.broker.is_up:
            return [("cp-a", "no control plane leads" if leader is None else "the broker is down")]
        found = [(machine.name, text) for machine in self.machines if (text := self._wrong_node(machine))]
        keys = leader.core.rows.keys()
        for key in keys:
            count, name = leader.core.components.count(key), ".".join(key)
            serving = self.traffic.serving(name)
            if serving != count and key not in leader.core.components.placing.unplaced:
                found.append((name, f"{name} should have {count} replicas and has {serving}"))
        return found

    def _wrong_node(self, machine: Machine) -> str:
        """Why a node is not as the control plane wants it; every node is reachable by now."""
        agent = machine.agent
        if not isinstance(agent, Agent):
            return f"{machine.name} has no agent"
        if not machine.link.is_up:
            return f"{machine.name} is not connected"
        node = self.store.contents.rows["Node", machine.name].value
        phase = node.status.phase if isinstance(node, Node) and node.status is not None else "gone"
        if phase != "ready":
            return f"{machine.name} is {phase}"
        mark = self.store.contents.rows.get(("Desired", machine.uid))
        desired = agent.reconciler.desired
        wanted = getattr(mark.value, "digest", "") if mark is not None else ""
        if wanted and (desired is None or desired.digest != wanted):
            return f"{machine.name} does not run its newest document"
        return ""

    def _missing(self, name: str) -> tuple[str, ...]:
        """Replicas that the document in force on a node wants and that do not serve, though they have not crashed."""
        agent = self._of_name[name].agent
        desired = agent.reconciler.desired if isinstance(agent, Agent) else None
        specs = desired.spec.replicas if desired is not None and desired.spec is not None else ()
        seen = {one.spec.id: one.phase for one in self._of_name[name].runtime.instances}
        plain = (spec.id for spec in specs if not spec.draining and not spec.single_instance)
        return tuple(one for one in plain if seen.get(one) not in ("ready", "exited", "failed"))

    def _shrinks(self, name: str) -> bool:
        application, _, part = name.partition(".")
        leader = self.site.leader
        component = leader.core.rows.component((application, part)) if leader is not None else None
        if leader is None or component is None or component.single_instance:
            return True
        has_port = component.process is not None and any(port.port for port in component.process.ports)
        is_recreated = component.update_strategy.type == "recreate"
        return has_port or is_recreated or leader.core.components.count((application, part)) == 0

    def _sample(self) -> Sample:
        rows = self.store.contents.rows
        nodes = [stored.value for (kind, _), stored in rows.items() if kind == "Node"]
        leader = self.site.leader
        wanted = {name: wanted for name, (wanted, _) in self.samples[-1].components.items()} if self.samples else {}
        if leader is not None:
            keys = leader.core.rows.keys()
            wanted = {".".join(key): leader.core.components.count(key) for key in keys}
        return Sample(
            self.kernel.now_s,
            sum(machine.has_power for machine in self.machines),
            sum(isinstance(one, Node) and one.status is not None and one.status.phase == "ready" for one in nodes),
            {name: (count, self.traffic.serving(name)) for name, count in wanted.items()},
            leader is not None,
            self.broker.is_up,
        )


def _names(group: GroupOptions) -> tuple[str, ...]:
    return tuple(f"{group.name}-{number}" for number in range(1, group.count + 1))


def _access(slice_name: str) -> Access:
    """The product's own access list, remembered."""
    acl = Acl(slice_name)
    known: dict[tuple[str, str, bool], bool] = {}

    def check(username: str, topic: str, is_write: bool) -> bool:
        key = (username, topic, is_write)
        if key not in known:
            known[key] = acl.may_write(username, topic) if is_write else acl.may_read(username, topic)
        return known[key]

    return check


def _datacenter(name: str) -> Datacenter:
    return Datacenter(metadata=Metadata(name=name), spec=DatacenterSpec())


def _node(machine: Machine) -> Node:
    group = machine.group
    return Node(
        metadata=Metadata(name=machine.name, labels=dict(group.labels), generation=1),
        spec=NodeSpec(
            layer=Layer(group.layer),
            datacenter=group.datacenter or None,
            hardware=Hardware(architecture="x86_64", cpu=group.cpu, memory=group.memory, disk=1 << 40),
        ),
        status=NodeStatus(uid=machine.uid, phase="expected"),
    )
