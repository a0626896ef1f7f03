"""Runs a scenario to its end and says what came of it; called by the CLI, the bench and tests.

`run` gives a `Result`, plain data that prints as JSON; what `plot.py` draws beyond it is in the `World` of `simulate`.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from .invariants import CHECKS, Violation
from .observed import InstanceReady, ReplicaEvicted
from .recording import Recorder, Recording, taken
from .scenario import LoadedScenario
from .world import World

PROGRESS_STEPS = 2_000


class Placed(msgspec.Struct, frozen=True, rename="camel"):
    """Where a component's replicas stand at the end."""

    component: str
    wanted: int
    ready: int
    nodes: tuple[str, ...]


class Availability(msgspec.Struct, frozen=True, rename="camel"):
    """How well a component was served."""

    component: str
    ready_share: float
    """Of the samples in which it wanted any replica, those in which one served."""
    requests: float = 0.0
    missed: float = 0.0
    """Requests that came while no replica served."""


class Failover(msgspec.Struct, frozen=True, rename="camel"):
    """A replica that was given up with its node, and the next one of its component that served."""

    replica: str
    node: str
    at_s: float
    served_again_s: float | None = None
    """Seconds from then to the next replica of the component that became ready; None when none did."""


class Traffic(msgspec.Struct, frozen=True, rename="camel"):
    """What went over the wire."""

    packets: int
    lost: int
    duplicated: int
    reordered: int
    broker_dropped: int
    refused_by_access: int


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """What came of a run."""

    scenario: str
    seed: int
    simulated_s: float
    real_s: float
    ratio: float
    """Simulated to real time."""
    steps: int
    trace_hash: str
    nodes: int
    placements: tuple[Placed, ...]
    availability: tuple[Availability, ...]
    failovers: tuple[Failover, ...]
    happenings: dict[str, int]
    """What the last control plane told people, by reason."""
    faults: dict[str, int]
    traffic: Traffic
    commits: int
    settled_s: float | None
    """Seconds after the last fault until everything was as described; None when that did not happen."""
    invariants: tuple[str, ...]
    """Those that were checked after every step."""
    violation: str = ""
    """The story of the invariant that did not hold; empty when all did."""


@dataclass(frozen=True)
class Simulated:
    """A finished run with its world, for plots."""

    result: Result
    world: World
    recording: Recording


@contextlib.contextmanager
def calm_collector() -> Iterator[None]:
    """Let Python look for cycles of garbage rarely: a run makes millions of objects and almost no cycles."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def simulate(loaded: LoadedScenario, seed: int, progress: Callable[[float], None] | None = None) -> Simulated:
    """Run to the end; `progress` is called now and then with the share that is done."""
    world, recorder = World(loaded, seed, keeps_facts=True), Recorder()
    begun_s = time.perf_counter()
    with calm_collector():
        while not world.is_over:
            world.step()
            recorder.after_step(world)
            if progress is not None and world.kernel.steps % PROGRESS_STEPS == 0:
                progress(min(world.kernel.now_s / loaded.scenario.duration_s, 1.0))
    recorder.mark(world)
    return Simulated(result_of(world, time.perf_counter() - begun_s), world, taken(loaded, seed, recorder))


def result_of(world: World, real_s: float) -> Result:
    """What can be said of a run that is over."""
    scenario, kernel, network, leader = world.loaded.scenario, world.kernel, world.network, world.site.leader
    settled_s = None if world.settled_s is None else world.settled_s - scenario.duration_s
    return Result(
        scenario=scenario.name,
        seed=kernel.seed,
        simulated_s=kernel.now_s,
        real_s=round(real_s, 3),
        ratio=round(kernel.now_s / max(real_s, 1e-9), 1),
        steps=kernel.steps,
        trace_hash=world.trace.digest(),
        nodes=len(world.machines),
        placements=tuple(_placed(world)),
        availability=tuple(_availability(world)),
        failovers=tuple(_failovers(world)),
        happenings=dict(sorted(leader.happenings.items())) if leader is not None else {},
        faults=dict(sorted(world.faults.counts.items())),
        traffic=Traffic(
            network.sent,
            network.lost,
            network.duplicated,
            network.reordered,
            world.broker.dropped,
            world.broker.refused,
        ),
        commits=world.store.commits,
        settled_s=settled_s,
        invariants=tuple(check.name for check in CHECKS),
        violation=str(world.violation or ""),
    )


def _placed(world: World) -> list[Placed]:
    leader = world.site.leader
    keys = leader.core.rows.keys() if leader is not None else ()
    found = []
    for key in keys:
        name = ".".join(key)
        nodes = tuple(machine.name for machine in world.machines for _ in range(machine.runtime.serving(name)))
        wanted = leader.core.components.count(key) if leader is not None else 0
        found.append(Placed(name, wanted, len(nodes), nodes))
    return found


def _availability(world: World) -> list[Availability]:
    found = []
    for name in sorted({name for sample in world.samples for name in sample.components}):
        states = [sample.components[name] for sample in world.samples if name in sample.components]
        asked = [ready for wanted, ready in states if wanted]
        share = sum(ready > 0 for ready in asked) / len(asked) if asked else 1.0
        served, missed = world.traffic.served.get(name, 0.0), world.traffic.missed.get(name, 0.0)
        found.append(Availability(name, round(share, 5), round(served + missed), round(missed)))
    return found


def _failovers(world: World) -> list[Failover]:
    found = []
    facts = world.trace.facts
    for place, (at_s, fact) in enumerate(facts):
        if not isinstance(fact, ReplicaEvicted):
            continue
        component = fact.replica.rpartition(".")[0]
        again_s = next(
            (
                later_s - at_s
                for later_s, later in facts[place:]
                if isinstance(later, InstanceReady) and later.component == component
            ),
            None,
        )
        found.append(Failover(fact.replica, fact.node, round(at_s, 3), None if again_s is None else round(again_s, 3)))
    return found


def violation_of(loaded: LoadedScenario, seed: int) -> Violation | None:
    """Run one seed, quickly; the invariant that it breaks, or None."""
    world = World(loaded, seed)
    with calm_collector():
        while not world.is_over:
            world.step()
    return world.violation
