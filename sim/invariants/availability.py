"""Invariants of serving: one where there may be one, on while cut off, back when the fault is over, no stampede."""

from __future__ import annotations

from ..observed import (
    AgentEnded,
    AgentStarted,
    Connected,
    Fact,
    FaultBegan,
    FaultEnded,
    InstanceBegan,
    InstanceEnded,
    InstanceReady,
    LinkFact,
    NodeOverbooked,
    PhaseFact,
    ReplicaEvicted,
    SettleOver,
    StopAsked,
    StoreOpened,
    Tick,
)
from .ledger import Ledger, invariant

CALM_S = 60.0
"""A fault explains what happens up to this long after it."""
BUDGET_WINDOW_S = 59.9
"""A minute, but for the time that a commit takes: evictions are seen when they are on disk."""
STORM_NODES_MIN = 3
AWAY = ("suspect", "lost")
BIN_S = 5.0
FLEET_MIN = 500


@invariant("I5", InstanceBegan, InstanceEnded, StoreOpened)
def single_instances_are_alone(ledger: Ledger, fact: InstanceBegan | InstanceEnded | StoreOpened) -> str:
    """A `single_instance` workload runs on at most one node at any instant.

    A restored backup forgets who was granted what: for the time of two leases after it there may be two.
    """
    if isinstance(fact, StoreOpened):
        ledger.restored_s = ledger.now_s if fact.restored else ledger.restored_s
        return ""
    if not fact.is_single:
        return ""
    running = ledger.single.setdefault(fact.component, {})
    instance = (fact.node, fact.replica, fact.digest)
    if isinstance(fact, InstanceEnded):
        running.pop(instance, None)
        return ""
    running[instance] = None
    nodes = sorted({node for node, _, _ in running})
    is_forgotten = ledger.now_s - ledger.restored_s < 2 * ledger.lease_s_max
    return "" if len(nodes) < 2 or is_forgotten else f"{fact.component} runs on {' and '.join(nodes)}"


@invariant("I6", StopAsked, LinkFact, AgentStarted, AgentEnded, InstanceEnded, Tick)
def the_disconnected_go_on_serving(ledger: Ledger, fact: Fact) -> str:
    """A disconnected node keeps serving; after an offline reboot it serves the last known good without any network."""
    match fact:
        case StopAsked():
            is_cut_off = not ledger.node(fact.node).is_linked
            if fact.is_wanted and is_cut_off and not fact.is_single and fact.was_ready:
                return f"{fact.node}, cut off, stops {fact.replica}, which its document still wants"
        case LinkFact():
            memory = ledger.node(fact.node)
            memory.is_linked = fact.is_up
            if fact.is_up:
                memory.restarted_s = None
        case AgentStarted():
            ledger.node(fact.node).restarted_s = ledger.now_s if fact.has_good else None
        case InstanceEnded():
            ledger.node(fact.node).restarted_s = None  # what has crashed since is another matter
        case AgentEnded():
            memory = ledger.node(fact.node)
            memory.is_linked, memory.restarted_s = False, None
        case Tick():
            return _late_restarts(ledger)
        case _:
            pass
    return ""


def _late_restarts(ledger: Ledger) -> str:
    for name, memory in ledger.nodes.items():
        if memory.restarted_s is not None and ledger.now_s - memory.restarted_s > ledger.restart_limit_s:
            memory.restarted_s = None
            if missing := ledger.missing_good(name):
                return f"{name} started offline and does not serve {', '.join(missing)}"
    return ""


@invariant("I7", SettleOver)
def faults_stop_and_everything_comes_right(ledger: Ledger, fact: SettleOver) -> str:
    """Once faults stop, every reachable node reports observed = desired within the bound."""
    return "; ".join(fact.wrong)


@invariant("I10", InstanceReady, InstanceEnded, StopAsked, FaultBegan, FaultEnded)
def the_last_replica_is_not_taken_away(ledger: Ledger, fact: Fact) -> str:
    """Updates, moves and scalings make before they break: in calm weather one replica always serves."""
    match fact:
        case FaultBegan():
            ledger.faults += -1 if isinstance(fact, FaultEnded) else 1
            ledger.fault_s = ledger.now_s
        case InstanceEnded():
            ledger.ready.setdefault(fact.component, set()).discard((fact.node, fact.replica, fact.digest))
        case InstanceReady():
            ledger.ready.setdefault(fact.component, set()).add((fact.node, fact.replica, fact.digest))
        case StopAsked():
            ready = ledger.ready.setdefault(fact.component, set())
            instance = (fact.node, fact.replica, fact.digest)
            was_last = ready == {instance}
            ready.discard(instance)
            is_calm = ledger.faults == 0 and ledger.now_s - ledger.fault_s > CALM_S
            if was_last and is_calm and not ledger.shrinks(fact.component):
                return f"{fact.replica} was the last that served {fact.component} and is stopped"
        case _:
            pass
    return ""


@invariant("I15", PhaseFact, ReplicaEvicted, StoreOpened)
def no_eviction_storm(ledger: Ledger, fact: PhaseFact | ReplicaEvicted | StoreOpened) -> str:
    """Evictions in a minute stay within the budget; there are none when most of a failure domain vanishes together.

    A new leader cannot know when nodes that it finds lost have vanished: those count no more.
    """
    if isinstance(fact, StoreOpened):
        for memory in ledger.nodes.values():
            memory.phase_s = float("-inf") if memory.phase == "lost" else memory.phase_s
        return ""
    if isinstance(fact, PhaseFact):
        memory = ledger.node(fact.node)
        if memory.phase not in AWAY or fact.phase not in AWAY:
            memory.phase_s = ledger.now_s  # a node that was suspect vanished then, not when it was called lost
        memory.phase = fact.phase
        return ""
    ledger.evictions_s.append(ledger.now_s)
    while ledger.evictions_s[0] <= ledger.now_s - BUDGET_WINDOW_S:
        ledger.evictions_s.popleft()
    budget = ledger.failover.evictions_per_minute
    if len(ledger.evictions_s) > budget:
        return f"{len(ledger.evictions_s)} evictions within a minute, {budget} are allowed"
    for site in ledger.sites.get(fact.node, ()):
        if problem := _storm(ledger, site):
            return f"{fact.replica} of {fact.node} was evicted although {problem}"
    return ""


def _storm(ledger: Ledger, site: str) -> str:
    """Whether most of a site vanished together, by the control plane's own verdicts."""
    phases = [memory for name, memory in ledger.nodes.items() if site in ledger.sites.get(name, ())]
    there = [memory for memory in phases if memory.phase in ("ready", *AWAY)]
    gone_s = sorted(memory.phase_s for memory in there if memory.phase in AWAY)
    together = [at_s for at_s in gone_s if at_s >= gone_s[-1] - 2 * ledger.lease_s_max] if gone_s else []
    if len(together) < STORM_NODES_MIN or len(together) <= ledger.failover.storm_share * len(there):
        return ""
    return f"{len(together)} of {len(there)} nodes of {site} vanished together"


@invariant("I17", Connected)
def reconnects_are_spread(ledger: Ledger, fact: Connected) -> str:
    """The reconnect peak is at most 2 N/W a second (bins of 5 s, N >= 500) for the jitter window W."""
    nodes = len(ledger.sites)
    if nodes < FLEET_MIN or ledger.spread_s <= 0:
        return ""
    ledger.connects_s.append(ledger.now_s)
    while ledger.connects_s[0] <= ledger.now_s - BIN_S:
        ledger.connects_s.popleft()
    rate, limit = len(ledger.connects_s) / BIN_S, 2 * nodes / ledger.spread_s
    return f"{rate:.0f} connections a second; {limit:.0f} are the limit" if rate > limit else ""


@invariant("capacity", NodeOverbooked)
def no_node_is_overbooked(ledger: Ledger, fact: NodeOverbooked) -> str:
    """Committed placements never reserve more of a node than it has."""
    return f"{fact.node} has {fact.capacity:g} of {fact.resource}, {fact.reserved:g} are reserved"
