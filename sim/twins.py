"""Invariants that are statements about two runs: one seed is one run (I24), and nobody decides by the wall clock (I18).

Each gives an empty text, or what differs; the tests run them over seeds.
"""

from __future__ import annotations

from .observed import EventApplied, EventEmitted
from .scenario import LoadedScenario
from .trace import told
from .world import World


def same_seed_same_trace(loaded: LoadedScenario, seed: int) -> str:
    """I24: the same seed gives the same trace hash.

    Two runs in one process; that another hash seed of the interpreter changes nothing either takes two processes.
    """
    first, second = _ended(loaded, seed), _ended(loaded, seed)
    if first.trace.digest() == second.trace.digest():
        return ""
    return f"seed {seed} gave {first.trace.digest()} ({first.kernel.steps} steps) and {second.trace.digest()}"


def wall_clocks_decide_nothing(loaded: LoadedScenario, seed: int) -> str:
    """I18: wall-clock jumps change no safety decision.

    The same seed with all clock jumps and with none of them gives the same decisions at the same times; only the times
    written into events, which are for people, may differ.
    """
    jumping, steady = _ended(loaded, seed), _ended(loaded, seed, has_wall_faults=False)
    with_jumps, without = decisions(jumping), decisions(steady)
    if with_jumps == without:
        return ""
    places = (place for place, pair in enumerate(zip(with_jumps, without, strict=False)) if pair[0] != pair[1])
    place = next(places, min(len(with_jumps), len(without)))
    line = (with_jumps[place:] or without[place:])[0]
    return f"seed {seed}: clock jumps change decision {place}: {line}"


def decisions(world: World) -> list[str]:
    """Everything that was noted in a run, with its time, but for what events say."""
    facts = ((at_s, fact) for at_s, fact in world.trace.facts if not isinstance(fact, EventEmitted | EventApplied))
    return [f"{at_s:.6f} {told(fact)}" for at_s, fact in facts]


def _ended(loaded: LoadedScenario, seed: int, *, has_wall_faults: bool = True) -> World:
    world = World(loaded, seed, has_wall_faults=has_wall_faults, keeps_facts=True)
    while not world.is_over:
        world.step()
    return world
