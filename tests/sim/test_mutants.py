"""Does the simulation find bugs? Each mutant breaks the protocol in one place, and the invariant named must notice.

A mutant is a patch of the product (or, where the database and disks are models, of the model) and a scenario that gives
it a chance. The run without the patch must be clean, so that it is the mutant that is caught and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from shoal.agents.mark import Mark
from shoal.agents.outbox import Outbox
from shoal.agents.outbox_events import DeleteEvents, Urgency
from shoal.agents.replica import Replica
from shoal.control_plane.effects import SendAck, StoreStream
from shoal.control_plane.inputs import StreamStored
from shoal.control_plane.publishing import Publisher
from shoal.control_plane.storm import EvictionBudget, StormBrake
from shoal.control_plane.streams import Streams
from shoal.descriptions.messages.lease import Ack
from shoal.sim.disk import Disk, flipped
from shoal.sim.scenario import (
    ChangeOptions,
    ChaosOptions,
    GroupOptions,
    LoadedScenario,
    LoadOptions,
    NetworkOptions,
    ReplicaOptions,
    TargetOptions,
)
from shoal.sim.sealing import MacRing
from shoal.sim.store import Store
from shoal.telemetry.backoff import Backoff

from .small import RUSH, SCALED, application, component, ended, fault, scenario

SEEDS_MAX = 12
SITE = TargetOptions(datacenters=("site",), count=4)
NEWER = application(component("web", replicas=1, process={"command": ["run", "--new"]}))
LARGE = tuple(GroupOptions(name, 125, "edge", "site") for name in ("a", "b", "c", "d"))
FULL = application(
    component("web", replicas=4, resources={"cpu": 1.5, "memory": 1 << 28}, placement={"layers": ("edge",)})
)
TWO = ("cloud-1", "cloud-2")
PINNED = application(component("api", placement={"nodes": ("edge-1",)}, **SCALED))


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    invariant: str
    scenario: LoadedScenario
    patches: dict[str, Any] = field(default_factory=dict)
    """`module:name.attribute` → what stands there instead."""
    also: tuple[str, ...] = ()
    """Invariants that may notice it first, because they follow from the same bug."""


def no_refusal(mark: Mark, desired: object) -> str:
    return ""


def acknowledge_first(store: Store, fence: int, kinds: tuple[Any, ...], deletes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tell the operator, and keep the row only where nobody dies."""
    rows = original_apply(store, fence, kinds, deletes)
    for row in rows:
        store.contents.rows.pop((row.kind, row.name), None)
    return rows


original_apply = Store.apply


def without_position(store: Store, fence: int, effect: StoreStream, node_name: str) -> int:
    """Append whatever comes, wherever the stream stands."""
    store.contents.positions[effect.node, effect.stream] = effect.after
    return original_stream(store, fence, effect, node_name)


original_stream = Store.store_stream


def forget_what_is_stored(streams: Streams, event: StreamStored) -> list[SendAck]:
    """Acknowledge and keep no account."""
    streams.asked.pop((event.node, event.stream), None)
    streams.unanswered.pop((event.node, event.stream), None)
    return [SendAck(event.id, event.node, Ack(event.stream, event.position))]


def only_with_a_lease(replica: Replica, allowed: Any) -> bool:
    """Every replica needs the lease that single instances need."""
    return replica.spec is not None and not replica.spec.draining and not allowed.draining and bool(allowed.lease_held)


def unpack_anything(data: bytes) -> bytes:
    return data[81:]


def rot_in_the_body(disk: Disk, random: Any) -> None:
    """Flip a bit where a number or a name stands, so that the document still parses."""
    for key in sorted(disk._durable):
        value = disk._durable[key]
        place = value.rindex(b'"sig"') + 12
        disk._durable[key] = value[:place] + flipped(value[place : place + 1], random) + value[place + 1 :]


def verify_nothing(ring: MacRing, kid: str, signature: bytes, data: bytes) -> None:
    return None


def events_first(outbox: Outbox, cause: str, urgency: Urgency, now_s: float) -> Any:
    """Give up the oldest event before any telemetry."""
    for stream in outbox.streams.values():
        if len(stream):
            outbox.dropped[stream.urgency] += stream.drop_to(stream.first, now_s)
            return DeleteEvents(cause, stream.urgency, stream.name, stream.first - 1)
    return None


def drop_uncounted(outbox: Outbox, *arguments: Any) -> Any:
    before = dict(outbox.dropped)
    effect = original_drop(outbox, *arguments)
    outbox.dropped = before
    return effect


original_drop = Outbox._drop_batch


def hear_nothing(publisher: Publisher, *arguments: Any) -> list[Any]:
    return []


def never_held(brake: StormBrake, uid: str) -> bool:
    return False


def endless(budget: EvictionBudget, *arguments: Any) -> int:
    return 1_000_000


def at_once(backoff: Backoff, floor_s: float = 0.0) -> float:
    return 0.0


def by_payload_alone(topic: Any, payload: bytes) -> Any:
    """Believe the message, whatever topic it came on."""
    from shoal.control_plane.ingest import _MESSAGES
    from shoal.descriptions.messages.codec import decode

    return decode(_MESSAGES[topic.channel], payload) if payload else None


def always(*arguments: Any) -> bool:
    return True


def nothing(*arguments: Any) -> str:
    return ""


LATER = ((ChangeOptions(80.0), (NEWER,)),)

MUTANTS = {
    "an acknowledged write is not kept": Mutant(
        "I1",
        scenario(fault("controlPlaneKill", 60.0, 10.0)),
        {"shoal.sim.store:Store.apply": acknowledge_first},
        also=("I7",),
    ),
    "agents take older documents": Mutant(
        "I2",
        scenario(
            fault("brokerCrash", 120.0, 20.0, store="rolledBack"),
            applications=(application(component("web", replicas=6)),),
            changes=LATER,
            broker_save_s=70.0,
        ),
        {"shoal.agents.mark:Mark.refusal": no_refusal},
    ),
    "the fence is not checked at the commit": Mutant(
        "I3",
        scenario(fault("controlPlanePause", 60.0, 60.0), control_planes=2, load=(RUSH,)),
        {"shoal.sim.store:Store.check_fence": nothing},
    ),
    "streams are not kept account of": Mutant(
        "I4",
        scenario(
            fault("degrade", 5.0, 200.0, network=NetworkOptions(duplicate=0.5)),
            chaos=ChaosOptions(600, ("replicaCrash", "agentKill")),
        ),
        {
            "shoal.sim.store:Store.store_stream": without_position,
            "shoal.control_plane.streams:Streams._stored": forget_what_is_stored,
        },
    ),
    "an agent keeps single instances for two leases": Mutant(
        "I5",
        scenario(
            *(fault("partition", 60.0 + 160.0 * number, 100.0, name) for number, name in enumerate(TWO)),
            applications=(application(component("one", single_instance=True, placement={"nodes": TWO})),),
            duration_s=330.0,
        ),
        {"shoal.agents.lease:SAFE_SHARE": 2.5},
    ),
    "the control plane does not wait for the lease": Mutant(
        "I5",
        scenario(
            *(fault("partition", 60.0, 100.0, name) for name in ("cloud-1", "edge-1", "edge-2")),
            applications=(application(component("one", single_instance=True, disconnect={"replace_after": 0.0})),),
            failover={"heartbeat": 2.0, "lease": 60.0},
        ),
        {"shoal.control_plane.reconcile:LEASE_MARGIN": 0.1, "shoal.agents.lease:SAFE_SHARE": 1.3},
    ),
    "agents stop everything without a lease": Mutant(
        "I6",
        scenario(fault("partition", 60.0, 120.0, targets=TargetOptions())),
        {"shoal.agents.replica:Replica._is_wanted": only_with_a_lease},
        also=("I7",),
    ),
    "documents that got lost are not sent again": Mutant(
        "I7",
        scenario(
            fault("brokerCrash", 70.0, 60.0, store="wiped"),
            changes=LATER,
            applications=(application(component("web", replicas=6)),),
            settle_s=200.0,
        ),
        {"shoal.control_plane.publishing:Publisher.heard": hear_nothing},
    ),
    "a damaged slot is used": Mutant(
        "I8",
        scenario(*(fault("diskRot", 100.0, 10.0, f"edge-{number}") for number in range(1, 6))),
        {
            "shoal.sim.agent_files:unpack": unpack_anything,
            "shoal.sim.sealing:MacRing.verify": verify_nothing,
            "shoal.sim.disk:Disk.rot": rot_in_the_body,
        },
    ),
    "updates break before they make": Mutant(
        "I10",
        scenario(applications=(application(component("web", replicas=1)),), changes=LATER),
        {"shoal.control_plane.desired:takes_turns": always, "shoal.control_plane.placing:takes_turns": always},
    ),
    "drops are not counted": Mutant(
        "I11",
        scenario(fault("partition", 60.0, 170.0, "edge-1"), load=(RUSH,), applications=(PINNED,)),
        {"shoal.sim.agent_outbox:QUOTA_BYTES": 4096, "shoal.agents.outbox:Outbox._drop_batch": drop_uncounted},
    ),
    "events are given up before telemetry": Mutant(
        "I12",
        scenario(
            fault("partition", 60.0, 170.0, "edge-1"),
            load=(LoadOptions("shop", "web", RUSH.points),),
            applications=(application(component("web", replicas=4, placement={"nodes": ("edge-1",)})),),
            replicas=ReplicaOptions(0.5, 2.0, 1.0, crashes_per_hour=400),
        ),
        {"shoal.sim.agent_outbox:QUOTA_BYTES": 3000, "shoal.agents.outbox:Outbox._give_up": events_first},
        also=("I7",),
    ),
    "a message is believed whatever its topic": Mutant(
        "I13",
        scenario(fault("impostor", 60.0, 10.0, "edge-1")),
        {"shoal.control_plane.ingest:_from_node": by_payload_alone},
    ),
    "the broker lets anyone write anywhere": Mutant(
        "I13",
        scenario(fault("impostor", 60.0, 10.0, "edge-1")),
        {"shoal.telemetry.acl:Acl.may_write": always},
    ),
    "a site that vanishes is replaced at once": Mutant(
        "I15",
        scenario(fault("powerCut", 60.0, 150.0, targets=SITE)),
        {"shoal.control_plane.storm:StormBrake.is_held": never_held},
    ),
    "evictions have no budget": Mutant(
        "I15",
        scenario(
            fault("powerCut", 60.0, 150.0, "edge-1", "edge-2"),
            applications=(
                application(
                    component("web", replicas=16, placement={"nodes": ("edge-1", "edge-2", "cloud-1", "cloud-2")})
                ),
            ),
            failover={"evictions_per_minute": 1},
        ),
        {
            "shoal.control_plane.storm:EvictionBudget.left": endless,
            "shoal.control_plane.storm:EvictionBudget.take": endless,
        },
    ),
    "everybody reconnects at once": Mutant(
        "I17",
        scenario(fault("brokerCrash", 15.0, 1.0), fleet=LARGE, applications=(), duration_s=30.0, settle_s=120.0),
        {"shoal.telemetry.backoff:Backoff.next_s": at_once},
    ),
    "capacity is looked at by nobody": Mutant(
        "capacity",
        scenario(
            applications=(FULL,),
            fleet=(GroupOptions("cloud", 1, "cloud"), GroupOptions("edge", 2, "edge", cpu=2)),
            settle_s=60.0,
        ),
        {
            "shoal.control_plane.placing:refusal": nothing,
            "shoal.control_plane.planner.ledger:Ledger.fits": always,
        },
    ),
}


def violation(mutant: Mutant) -> str:
    """The first invariant that notices, over a few seeds."""
    for seed in range(1, SEEDS_MAX + 1):
        world = ended(mutant.scenario, seed)
        if world.violation is not None and world.violation.name not in mutant.also:
            return world.violation.name
    return ""


def patched(monkeypatch: pytest.MonkeyPatch, patches: dict[str, Any]) -> None:
    for target, value in patches.items():
        module, _, name = target.partition(":")
        monkeypatch.setattr(f"{module}.{name}", value)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_invariant_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    patched(monkeypatch, mutant.patches)
    assert violation(mutant) == mutant.invariant


@pytest.mark.parametrize("name", MUTANTS)
def test_the_same_run_without_the_bug_is_clean(name: str) -> None:
    world = ended(MUTANTS[name].scenario, 1)
    assert world.violation is None, str(world.violation)


def test_a_violation_tells_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS["a site that vanishes is replaced at once"]
    patched(monkeypatch, mutant.patches)
    told = str(ended(mutant.scenario, 1).violation)
    assert "I15 violated at " in told
    assert "(seed 1, step " in told
    assert "vanished together" in told
    assert "PhaseFact node=edge-" in told
    assert len(told.splitlines()) > 4
    assert "replica=shop." in told
