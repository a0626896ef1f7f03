"""Whole stories over the core: placing, changing, losing and finding again."""

from __future__ import annotations

from shoal.control_plane.effects import SendDesired, SendRoutes

from .harness import Harness
from .kinds import a_model, a_node, a_slice, an_app


def phase(world: Harness, node: str) -> str:
    """What the control plane holds of a node now."""
    return world.core.nodes.states[node].phase


def test_two_replicas_are_placed_and_become_ready(world: Harness) -> None:
    world.start(a_slice())
    world.join(a_node("n1"), a_node("n2"))
    world.apply(an_app(replicas=2))

    assert world.placements() == {"app.web.1": "n1", "app.web.2": "n2"}
    assert world.running("web") == [("app.web.1", "n1"), ("app.web.2", "n2")]
    world.advance(1.0)
    status = world.core.rows.applications["app"].status
    assert status is not None
    assert (status.desired, status.ready) == (2, 2)
    assert [one.type for one in status.conditions if one.status == "True"] == ["Ready"]


def fleet(world: Harness, nodes: int = 3, cpu: str = "4", **failover: object) -> None:
    """A slice with 5 s heartbeats and 30 s leases unless said otherwise."""
    world.start(a_slice(**failover))
    world.join(*(a_node(f"n{number}", cpu) for number in range(1, nodes + 1)))


def test_more_and_fewer_replicas(world: Harness) -> None:
    fleet(world)
    world.apply(an_app(replicas=1))
    world.apply(an_app(replicas=3))
    assert world.running("web") == [("app.web.1", "n1"), ("app.web.2", "n2"), ("app.web.3", "n3")]
    world.apply(an_app(replicas=1))
    assert world.running("web") == [("app.web.1", "n1")]
    assert world.placements(wanted="drain") == {}
    world.apply(an_app(replicas=2))
    assert world.placements() == {"app.web.1": "n1", "app.web.4": "n2"}


def test_a_deleted_application_leaves_nothing_behind(world: Harness) -> None:
    fleet(world)
    world.apply(an_app(replicas=2))
    world.delete("Application", "app")
    assert world.running("web") == []
    assert {kind for kind, _ in world.database} == {"Slice", "Node", "Desired", "ComponentState"}
    world.apply(an_app(replicas=1))
    assert world.placements() == {"app.web.3": "n1"}, "no id is used twice"


def test_an_update_starts_the_new_before_it_stops_the_old(world: Harness) -> None:
    fleet(world)
    world.apply(an_app(replicas=2))
    least = 2
    world.agents["n1"].phases = world.agents["n2"].phases = world.agents["n3"].phases = {}
    for agent in world.agents.values():
        agent.obeys = False
    world.apply(an_app(replicas=2, process={"command": ["/bin/web", "--new"]}))
    for _ in range(20):
        for agent in world.agents.values():
            world.report(agent)
        least = min(least, len(world.running("web")))
    assert least == 2
    assert world.placements() == {"app.web.3": "n3", "app.web.4": "n1"}
    rollout = next(iter(world.core.rows.rollouts.values()))
    assert rollout.status is not None
    assert (rollout.spec.cause.value, rollout.status.phase) == ("update", "done")


def test_an_update_that_never_gets_ready_is_taken_back(world: Harness) -> None:
    fleet(world)
    world.apply(an_app(replicas=2))
    for agent in world.agents.values():
        agent.phases["app.web.3"] = "starting"
    world.apply(an_app(replicas=2, process={"command": ["/bin/broken"]}))
    assert world.placements() == {"app.web.1": "n1", "app.web.2": "n2", "app.web.3": "n3"}
    world.advance(119.0)
    assert "app.web.3" in world.placements()
    world.advance(2.0)
    assert world.running("web") == [("app.web.1", "n1"), ("app.web.2", "n2")]
    assert len(world.told("RolloutFailed")) == 1
    world.advance(600.0)
    assert world.placements() == {"app.web.1": "n1", "app.web.2": "n2"}, "it is not tried again"
    world.apply(an_app(replicas=2, process={"command": ["/bin/fixed"]}))
    world.advance(10.0)
    assert sorted(world.placements().values()) == ["n1", "n3"]
    assert {one.revision for one in world.core.rows.placements.values()} == {3}


def test_a_fix_does_not_wait_for_the_broken_update(world: Harness) -> None:
    fleet(world)
    world.apply(an_app(replicas=1))
    for agent in world.agents.values():
        agent.phases["app.web.2"] = "starting"
    world.apply(an_app(replicas=1, process={"command": ["/bin/broken"]}))
    world.apply(an_app(replicas=1, process={"command": ["/bin/fixed"]}))
    assert world.running("web") == [("app.web.3", "n3")]
    assert list(world.core.rows.revisions) == ["app.web.3"], "what nothing runs is forgotten"


def test_a_killed_node_is_suspect_then_lost_then_replaced(world: Harness) -> None:
    fleet(world, replaceAfter="60s")
    world.apply(an_app(replicas=2))
    world.advance(30.0)
    world.kill("n1")
    world.advance(15.0)
    assert phase(world, "n1") == "suspect"
    assert world.placements() == {"app.web.1": "n1", "app.web.2": "n2"}
    world.advance(16.0)
    assert phase(world, "n1") == "lost"
    world.advance(55.0)
    assert world.running("web") == [("app.web.2", "n2")]
    world.advance(10.0)
    assert world.running("web") == [("app.web.2", "n2"), ("app.web.3", "n3")]
    assert world.core.rows.placements["app.web.1"].lost


def test_a_will_makes_a_node_suspect_at_once(world: Harness) -> None:
    fleet(world)
    world.advance(10.0)
    world.kill("n1", will=True)
    assert phase(world, "n1") == "suspect"


RETURNS = {
    "keepReplacement": [("app.web.2", "n2")],
    "keepOriginal": [("app.web.1", "n1")],
}


def lose_and_return(world: Harness, on_return: str) -> None:
    fleet(world, 2, replaceAfter="0s")
    world.apply(an_app(replicas=1, disconnect={"onReturn": on_return}))
    world.advance(10.0)
    world.disconnect("n1")
    world.advance(40.0)
    assert world.running("web") == [("app.web.1", "n1"), ("app.web.2", "n2")], "the cut-off node serves on"
    world.revive("n1")


def test_a_returning_node_gives_way(world: Harness) -> None:
    lose_and_return(world, "keepReplacement")
    assert world.running("web") == [("app.web.2", "n2")]
    assert list(world.core.rows.placements) == ["app.web.2"]


def test_a_returning_node_takes_over_again(world: Harness) -> None:
    lose_and_return(world, "keepOriginal")
    assert world.running("web") == [("app.web.1", "n1")]
    assert list(world.core.rows.placements) == ["app.web.1"]


def test_the_better_node_stays(world: Harness) -> None:
    world.scores = {"n1": 2.0, "n2": 1.0}
    lose_and_return(world, "bestScore")
    assert world.running("web") == [("app.web.1", "n1")]


def test_the_better_node_stays_when_it_is_the_replacement(world: Harness) -> None:
    world.scores = {"n1": 1.0, "n2": 2.0}
    lose_and_return(world, "bestScore")
    assert world.running("web") == [("app.web.2", "n2")]


def test_a_node_that_returns_in_time_keeps_everything(world: Harness) -> None:
    fleet(world, 2, replaceAfter="60s")
    world.apply(an_app(replicas=1))
    world.advance(10.0)
    world.disconnect("n1")
    world.advance(60.0)
    world.revive("n1")
    world.advance(100.0)
    assert list(world.core.rows.placements) == ["app.web.1"]
    assert world.running("web") == [("app.web.1", "n1")]


def test_never_means_never(world: Harness) -> None:
    fleet(world, 2, replaceAfter="0s")
    world.apply(an_app(replicas=1, disconnect={"replaceAfter": "never"}))
    world.kill("n1")
    world.advance(3600.0)
    assert world.placements() == {"app.web.1": "n1"}


def test_a_single_instance_waits_for_the_lease_to_be_over_for_certain(world: Harness) -> None:
    fleet(world, 2, replaceAfter="0s")
    world.apply(an_app(replicas=1, singleInstance=True))
    world.advance(10.0)
    granted_s = world.core.membership.members["uid-n1"].granted_s
    world.disconnect("n1")
    world.advance(granted_s + 1.25 * 30.0 + 10.0 - world.now_s - 0.1)
    assert world.placements() == {"app.web.1": "n1"}
    world.advance(0.2)
    assert world.running("web")[-1] == ("app.web.2", "n2")
    world.agents["n1"].obeys = False
    leases = len(world.log)
    world.revive("n1")
    granted = [effect for effect in world.log[leases:] if type(effect).__name__ == "SendLease"]
    assert granted == [], "no lease for what was replaced"


def test_a_single_instance_is_updated_one_after_the_other(world: Harness) -> None:
    fleet(world, 2)
    world.apply(an_app(replicas=1, singleInstance=True))
    world.agents["n1"].obeys = False
    world.apply(an_app(replicas=1, singleInstance=True, process={"command": ["/bin/new"]}))
    assert world.running("web") == [], "the new one waits until the old one is known to be gone"
    world.report(world.agents["n1"])
    assert world.running("web") == [("app.web.2", "n2")]


def test_draining_a_node_moves_what_runs_there(world: Harness) -> None:
    fleet(world)
    world.apply(an_app(replicas=2))
    world.apply(a_node("n1", drained=True))
    assert world.running("web") == [("app.web.2", "n2"), ("app.web.3", "n3")]
    rollout = next(iter(world.core.rows.rollouts.values()))
    assert rollout.spec.cause.value == "drain"


def test_what_fits_nowhere_waits_for_room(world: Harness) -> None:
    fleet(world, 1, cpu="1")
    world.apply(an_app(replicas=2))
    assert world.placements() == {"app.web.1": "n1"}
    asked = len([effect for effect in world.log if type(effect).__name__ == "AskPlanner"])
    world.advance(25.0)
    assert len([effect for effect in world.log if type(effect).__name__ == "AskPlanner"]) <= asked + 1, "no hot loop"
    status = world.core.rows.applications["app"].status
    assert status is not None
    assert status.conditions[2].reason == "NoNodeFits"
    world.join(a_node("n2"))
    world.advance(2.0)
    assert world.running("web") == [("app.web.1", "n1"), ("app.web.2", "n2")]


def test_a_vanished_site_causes_no_storm(world: Harness) -> None:
    world.start(a_slice(replaceAfter="0s"))
    world.join(*(a_node(f"a{number}", datacenter="a") for number in range(4)), a_node("b0"), a_node("b1"))
    world.apply(an_app(replicas=4, placement={"nodes": ["a0"]}))
    before = world.placements()
    world.advance(20.0)
    for number in range(4):
        world.disconnect(f"a{number}")
    world.advance(300.0)
    assert world.placements() == before
    assert len(world.told("SiteStorm")) >= 1
    for number in range(4):
        world.revive(f"a{number}")
    assert world.placements() == before
    assert world.told("SiteStormOver")


def test_without_an_echo_nobody_is_judged(world: Harness) -> None:
    fleet(world)
    world.advance(20.0)
    world.broker_up = False
    for agent in world.agents.values():
        agent.connected = False
    world.advance(600.0)
    assert {state.phase for state in world.core.nodes.states.values()} == {"ready"}
    world.broker_up = True
    world.advance(60.0)
    assert {state.phase for state in world.core.nodes.states.values()} <= {"ready", "suspect"}
    world.advance(90.0)
    assert {state.phase for state in world.core.nodes.states.values()} == {"lost"}


def test_a_restart_changes_nothing(world: Harness) -> None:
    fleet(world)
    world.apply(a_model(), an_app(replicas=2), an_app("two", name="m", process=None, inference={"model": "digits"}))
    world.advance(10.0)
    before = world.core.rows.placements
    sent = len(world.effects(SendDesired))
    world.restart()
    world.advance(300.0)
    assert world.core.rows.placements == before
    assert len(world.effects(SendDesired)) == sent, "nothing is told again to those who know it"
    routes = world.effects(SendRoutes)[-1].routes
    assert (routes.model, [one.node for one in routes.endpoints]) == ("digits", ["n1"])


def test_after_a_restart_lost_verdicts_wait_for_the_longest_lease(world: Harness) -> None:
    fleet(world, replaceAfter="0s")
    world.apply(an_app(replicas=1))
    world.advance(10.0)
    world.kill("n1")
    world.restart()
    world.advance(119.0)
    assert phase(world, "n1") == "suspect"
    world.advance(2.0)
    assert phase(world, "n1") == "lost"
    assert world.running("web") == [("app.web.2", "n2")]


def test_a_restored_database_is_noticed(world: Harness) -> None:
    fleet(world, 2)
    backup = dict(world.database), world.version, world.generation
    world.apply(an_app(replicas=2))
    world.database, world.version, world.generation = backup
    world.issued.clear()
    world.published.clear()
    world.restart()
    world.advance(30.0)
    assert world.epoch == 2
    assert world.running("web") == [], "the application is in no backup"
    assert len(world.told("DatabaseRestored")) == 1


def test_a_model_is_served_by_ready_replicas_alone(world: Harness) -> None:
    fleet(world)
    world.apply(a_model(stored=False), an_app(name="m", process=None, inference={"model": "digits"}, replicas=2))
    world.advance(1.0)
    status = world.core.rows.applications["app"].status
    assert status is not None
    assert status.conditions[2].reason == "ModelNotUploaded"
    world.apply(a_model())
    routes = world.effects(SendRoutes)[-1].routes
    assert [one.node for one in routes.endpoints] == ["n1", "n2"]
    world.apply(a_model(version="2"))
    routes = world.effects(SendRoutes)[-1].routes
    assert len(routes.endpoints) == 2
    assert {one.revision for one in world.core.rows.placements.values()} == {2}
