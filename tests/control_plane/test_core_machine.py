"""Whatever happens in whatever order: nothing bad ever, and in the end what is described runs.

Safety after every step: invariants of the harness, at most one of a single instance, no eviction from a held site.
Liveness at the end: with every node back and time to settle, each component has its replicas, on the newest revision.
"""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from .harness import Harness
from .kinds import a_node, a_slice, an_app

NODES = ("n1", "n2", "n3", "n4")
APPS = ("alpha", "beta", "solo")
ON_RETURN = ("keepOriginal", "keepReplacement", "bestScore")


class Slice(RuleBasedStateMachine):
    """Four nodes, three applications, people, faults and time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Harness()
        self.wanted: dict[str, tuple[int, int]] = {}
        """Application → replicas and version of its command."""

    @initialize(replace_after=st.sampled_from(["0s", "20s", "60s"]))
    def start(self, replace_after: str) -> None:
        self.world.start(a_slice(replaceAfter=replace_after))
        self.world.join(*(a_node(name, "8") for name in NODES))

    @rule(
        name=st.sampled_from(APPS),
        replicas=st.integers(0, 4),
        version=st.integers(1, 3),
        on_return=st.sampled_from(ON_RETURN),
        recreate=st.booleans(),
    )
    def describe(self, name: str, replicas: int, version: int, on_return: str, *, recreate: bool) -> None:
        is_solo = name == "solo"
        replicas = min(replicas, 1) if is_solo else replicas
        self.wanted[name] = (replicas, version)
        self.world.apply(
            an_app(
                name,
                replicas=replicas,
                process={"command": ["/bin/web", str(version)]},
                singleInstance=is_solo,
                disconnect={"onReturn": on_return},
                updateStrategy={"type": "recreate" if recreate else "rolling", "maxSurge": 2},
            )
        )

    @rule(name=st.sampled_from(APPS))
    def remove(self, name: str) -> None:
        if self.wanted.pop(name, None) is not None:
            self.world.delete("Application", name)

    @rule(seconds=st.sampled_from([0.5, 3.0, 12.0, 31.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(name=st.sampled_from(NODES), will=st.booleans())
    def kill(self, name: str, *, will: bool) -> None:
        if self.world.agents[name].alive:
            self.world.kill(name, will=will and self.world.agents[name].connected)

    @rule(name=st.sampled_from(NODES))
    def disconnect(self, name: str) -> None:
        self.world.disconnect(name)

    @rule(name=st.sampled_from(NODES))
    def revive(self, name: str) -> None:
        if self.world.broker_up:
            self.world.revive(name)

    @rule(name=st.sampled_from(NODES), drained=st.booleans(), cordoned=st.booleans())
    def steer(self, name: str, *, drained: bool, cordoned: bool) -> None:
        self.world.apply(a_node(name, "8", drained=drained, cordoned=cordoned))

    @rule()
    def restart(self) -> None:
        if self.world.broker_up:
            self.world.restart()

    @rule()
    def hold_plans(self) -> None:
        self.world.holds_plans = True

    @precondition(lambda self: self.world.holds_plans)
    @rule()
    def release_plans(self) -> None:
        self.world.release()

    @rule()
    def lose_broker(self) -> None:
        self.world.broker_up = False
        for agent in self.world.agents.values():
            agent.connected = False

    @precondition(lambda self: not self.world.broker_up)
    @rule()
    def find_broker(self) -> None:
        self.world.broker_up = True

    @invariant()
    def holds(self) -> None:
        self.world.check()
        solos = self.world.running("web")
        assert sum(replica.startswith("solo.") for replica, _ in solos) <= 1, "a single instance runs twice"

    def teardown(self) -> None:
        """Faults stop: everything described runs, once, and nothing else."""
        world = self.world
        if not world.agents:
            return
        world.broker_up = True
        world.release()
        for name in NODES:
            world.apply(a_node(name, "8"))
            world.revive(name)
        world.advance(900.0)
        world.check()
        placements = world.core.rows.placements.values()
        for name, (replicas, version) in self.wanted.items():
            mine = [one for one in placements if one.application == name]
            assert [one.phase for one in mine] == ["ready"] * replicas, (name, mine)
            for one in mine:
                revision = world.core.rows.revision_of(one)
                assert revision is not None
                assert revision.template.task.command[1] == str(version)  # type: ignore[union-attr]
        assert {one.application for one in placements} <= set(self.wanted)
        running = sorted(replica for replica, _ in world.running("web"))
        assert running == sorted(one.id for one in placements)


TestSlice = Slice.TestCase
TestSlice.settings = hypothesis.settings(max_examples=60, stateful_step_count=25, report_multiple_bugs=False)
