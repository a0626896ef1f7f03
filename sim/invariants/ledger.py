"""The memory of the invariants and the register they are kept in.

An invariant is a function of the ledger and a fact; it returns what is wrong, or an empty text. It names the facts that
can break it, so that after each step only those are asked that the step concerns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ...descriptions.kinds.slice import Failover
from ..observed import Fact

F = TypeVar("F", bound=Fact)


@dataclass(frozen=True)
class Check:
    """A registered invariant."""

    name: str
    """`I5`."""
    title: str
    """First line of its docstring."""
    facts: tuple[type[Fact], ...]
    function: Callable[[Ledger, Fact], str]


CHECKS: list[Check] = []
"""All of them, in order of definition."""


def invariant(name: str, *facts: type[Fact]) -> Callable[[Callable[[Ledger, F], str]], Callable[[Ledger, F], str]]:
    """Register a function as an invariant that these facts can break."""

    def register(function: Callable[[Ledger, F], str]) -> Callable[[Ledger, F], str]:
        title = (function.__doc__ or "").strip().splitlines()[0]

        def check(ledger: Ledger, fact: Fact) -> str:
            return function(ledger, fact)  # type: ignore[arg-type]

        CHECKS.append(Check(name, title, facts, check))
        return function

    return register


@dataclass(frozen=True)
class Violation:
    """An invariant does not hold."""

    name: str
    title: str
    problem: str
    seed: int
    step: int
    at_s: float
    story: tuple[str, ...]
    """The last facts about what is concerned."""

    def __str__(self) -> str:
        """Everything a person needs to begin with."""
        head = f"{self.name} violated at {self.at_s:.3f} s (seed {self.seed}, step {self.step}): {self.problem}"
        return "\n".join([head, f"  {self.title}", *(f"  {line}" for line in self.story)])


@dataclass
class NodeMemory:
    """What is remembered of one node."""

    order: tuple[int, int] = (0, 0)
    """Highest (epoch, generation) applied."""
    digest: str = ""
    is_linked: bool = False
    phase: str = ""
    phase_s: float = 0.0
    restarted_s: float | None = None
    """When an agent with a good document started while cut off; None when that is over."""


@dataclass
class Ledger:
    """What the invariants remember. `now_s` and the settings are filled in by the world."""

    failover: Failover = field(default_factory=Failover)
    now_s: float = 0.0
    nodes: dict[str, NodeMemory] = field(default_factory=dict)
    sites: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Node → its failure domains."""
    acknowledged: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    """Kind and name → version that was acknowledged, and whether it was a delete."""
    emitted: dict[str, dict[int, str]] = field(default_factory=dict)
    """Stream → seq → what the node wrote to its disk."""
    applied: dict[str, int] = field(default_factory=dict)
    """Stream → last event that the control plane stored."""
    given_up: dict[str, int] = field(default_factory=dict)
    """Stream → events up to this seq are gone from the node without an acknowledgement."""
    single: dict[str, dict[tuple[str, str, str], None]] = field(default_factory=dict)
    """Component → (node, replica, digest) of its single instances that exist."""
    ready: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    """Component → (node, replica, digest) of its instances that serve."""
    evictions_s: deque[float] = field(default_factory=deque)
    connects_s: deque[float] = field(default_factory=deque)
    spread_s: float = 0.0
    """Window over which the control plane asked reconnects to be spread."""
    fault_s: float = float("-inf")
    """When the last fault began or ended; infinite while one lasts."""
    faults: int = 0
    restored_s: float = float("-inf")
    """When an operator last put back a backup."""
    restart_limit_s: float = 60.0
    """Within this time a cut-off agent must have its replicas serving again."""
    missing_good: Callable[[str], tuple[str, ...]] = field(default=lambda _node: ())
    """Node → replicas of the document in force on it that do not serve."""
    shrinks: Callable[[str], bool] = field(default=lambda _component: False)
    """Component → true where the description allows its last replica to go (scaled to zero, deleted, one at a time)."""

    @property
    def lease_s_max(self) -> float:
        """The longest lease of the slice."""
        return max(timings.lease for timings in (self.failover, *self.failover.layers.values()))

    def node(self, name: str) -> NodeMemory:
        """The memory of a node, made when first asked for."""
        return self.nodes.setdefault(name, NodeMemory())
