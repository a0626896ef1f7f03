"""Whole runs: quiet ones, single faults with what must follow, and many short chaotic ones by seed."""

from __future__ import annotations

import pytest

from shoal.sim.invariants import CHECKS
from shoal.sim.observed import (
    EventApplied,
    EventEmitted,
    InstanceBegan,
    InstanceEnded,
    InstanceReady,
    OutboxDropped,
    PhaseFact,
    ReplicaEvicted,
    StopAsked,
)
from shoal.sim.scenario import ChangeOptions, ChaosOptions, TargetOptions
from shoal.sim.world import World

from .small import RUSH, SCALED, SHOP, application, component, ended, fault, scenario

CHAOS = scenario(chaos=ChaosOptions(per_hour=900, longest_s=90), load=(RUSH,), control_planes=2)
STALE = scenario(chaos=ChaosOptions(per_hour=900, longest_s=90), load=(RUSH,), control_planes=2, keep_sessions=True)
SEEDS = range(1, 41)


def facts(world: World, kind: type, **wanted: object) -> list[tuple[float, object]]:
    return [
        (at_s, fact)
        for at_s, fact in world.trace.facts
        if type(fact) is kind and all(getattr(fact, name) == value for name, value in wanted.items())
    ]


def placed(world: World, name: str) -> list[str]:
    return [machine.name for machine in world.machines for _ in range(machine.runtime.serving(name))]


def test_a_quiet_run_ends_as_described() -> None:
    world = ended(scenario(load=(RUSH,)), 1)
    assert world.violation is None
    assert world.settled_s == 240.0
    assert len(placed(world, "shop.web")) == 4
    assert len(placed(world, "shop.one")) == 1
    assert world.store.contents.leader.epoch == 1
    assert facts(world, PhaseFact, phase="lost") == []


def test_load_is_followed_up_and_down() -> None:
    world = ended(scenario(load=(RUSH,), duration_s=300.0), 1)
    counts = [sample.components["shop.api"] for sample in world.samples if "shop.api" in sample.components]
    assert max(ready for _, ready in counts) >= 4
    assert counts[-1] == (1, 1)
    assert world.traffic.missed.get("shop.api", 0.0) <= 20.0, "only what came before the first replica was ready"


def test_a_dead_nodes_replicas_are_placed_elsewhere() -> None:
    quiet = ended(scenario(), 3)
    victim = placed(quiet, "shop.web")[0]
    world = ended(scenario(fault("powerCut", 100.0, 120.0, victim)), 3)
    assert world.violation is None
    (lost,) = facts(world, PhaseFact, node=victim, phase="lost")
    assert 115.0 <= lost[0] <= 131.0, "one lease after the last heartbeat"
    evicted = facts(world, ReplicaEvicted, node=victim)
    assert evicted
    assert 10.0 <= evicted[0][0] - lost[0] <= 11.0
    assert any(evicted[0][0] < at_s < evicted[0][0] + 10.0 for at_s, _ in facts(world, InstanceReady))


def test_a_cut_off_node_serves_on_and_its_events_arrive_afterwards() -> None:
    apps = (application(component("web", replicas=8, disconnect={"replace_after": "never"})),)
    victim = placed(ended(scenario(applications=apps), 1), "shop.web")[0]
    faults = (fault("partition", 60.0, 120.0, victim), fault("replicaCrash", 90.0, 2.0, victim))
    world = ended(scenario(*faults, applications=apps), 1)
    assert world.violation is None
    assert facts(world, ReplicaEvicted) == []
    assert facts(world, StopAsked, node=victim) == []
    (crashed,) = facts(world, InstanceEnded, node=victim, cause="crashed")
    assert any(crashed[0] < at_s < 180.0 for at_s, _ in facts(world, InstanceBegan, node=victim)), "started again alone"
    written = {fact.body for _, fact in facts(world, EventEmitted, node=victim)}  # type: ignore[attr-defined]
    arrived = {fact.body for _, fact in facts(world, EventApplied, node=victim)}  # type: ignore[attr-defined]
    assert written == arrived


def test_most_of_a_site_vanishes_and_nobody_is_evicted() -> None:
    world = ended(scenario(fault("powerCut", 60.0, 150.0, targets=TargetOptions(datacenters=("site",), count=4))), 2)
    assert world.violation is None
    assert len(facts(world, PhaseFact, phase="lost")) == 4
    assert [at_s for at_s, fact in facts(world, ReplicaEvicted) if at_s < 210.0] == []


def test_two_control_planes_take_turns() -> None:
    world = ended(scenario(fault("controlPlanePause", 60.0, 60.0), control_planes=2), 1)
    assert world.violation is None
    assert world.store.contents.leader.holder == "cp-b"
    assert world.store.contents.leader.fence == 2
    assert facts(world, PhaseFact, phase="lost") == []


def test_a_rolling_update_is_made_before_it_breaks() -> None:
    newer = application(component("web", replicas=4, process={"command": ["run", "--new"]}))
    before = application(component("web", replicas=4))
    world = ended(scenario(applications=(before,), changes=((ChangeOptions(100.0), (newer,)),)), 1)
    assert world.violation is None
    ready = [sample.components["shop.web"][1] for sample in world.samples if sample.at_s > 60.0]
    assert min(ready) >= 4
    commands = {str(one.spec.task) for machine in world.machines for one in machine.runtime.instances}
    assert all("--new" in command for command in commands)


def test_a_drained_node_is_emptied() -> None:
    quiet = ended(scenario(), 1)
    victim = placed(quiet, "shop.web")[0]
    world = ended(scenario(changes=((ChangeOptions(100.0, drain=(victim,)), ()),)), 1)
    assert world.violation is None
    assert victim not in placed(world, "shop.web")
    assert len(placed(world, "shop.web")) == 4


def test_a_deleted_application_ends() -> None:
    world = ended(scenario(changes=((ChangeOptions(100.0, delete=("Application/shop",)), ()),)), 1)
    assert world.violation is None
    assert [one for machine in world.machines for one in machine.runtime.instances] == []


def test_an_impostor_changes_nothing() -> None:
    world = ended(scenario(fault("impostor", 60.0, 10.0, "edge-1")), 1)
    assert world.violation is None
    assert world.broker.refused == 2
    assert world.site.leader is not None
    assert world.site.leader.ingest.dropped["sender"] == 1


def test_a_long_partition_fills_the_outbox_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.sim.agent_outbox.QUOTA_BYTES", 4096)
    apps = (application(component("api", placement={"nodes": ("edge-1",)}, **SCALED)),)
    cut = fault("partition", 60.0, 170.0, "edge-1")
    world = ended(scenario(cut, load=(RUSH,), duration_s=300.0, applications=apps), 1)
    assert world.violation is None
    given_up = facts(world, OutboxDropped, node="edge-1")
    assert len(given_up) > 10
    assert all(fact.urgency == 2 for _, fact in given_up)  # type: ignore[attr-defined]


def test_a_restored_backup_is_noticed_and_healed() -> None:
    later = application(component("late", replicas=2), name="later")
    changes = ((ChangeOptions(320.0), (later,)),)
    world = ended(scenario(fault("storeRestore", 400.0, 10.0), changes=changes, duration_s=500.0), 1)
    assert world.violation is None
    assert world.store.contents.leader.epoch > 1
    assert placed(world, "later.late") == [], "the application is in no backup"


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed: int) -> None:
    """Random faults by seed, every other one with a broker that keeps sessions; a failure tells its own story."""
    world = ended(STALE if seed % 2 else CHAOS, seed)
    assert world.violation is None, str(world.violation)
    assert world.settled_s is not None
    assert sum(world.faults.counts.values()) > 5


def test_chaos_reaches_every_kind_of_fault() -> None:
    struck: set[str] = set()
    for seed in range(100, 112):
        world = World(CHAOS, seed)
        while world.kernel.now_s < 240.0:
            world.step()
        struck |= world.faults.counts.keys()
    assert len(struck) >= 12, struck


def test_there_are_enough_invariants() -> None:
    assert len(CHECKS) >= 13
    assert all(check.title for check in CHECKS)
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert SHOP.spec.components
