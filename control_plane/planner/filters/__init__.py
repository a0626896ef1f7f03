"""Hard constraints, one file a group; a node takes a replica only if it passes all that the component asks for.

`constraints_of` lists them for one need: first those that no placement changes, whose masks are shared by all
components that ask for the same, then capacity, then those that depend on what stands where.
"""

from __future__ import annotations

from collections.abc import Callable

from ..constraint import Constraints, Question
from .capacity import capacity
from .hardware import hardware
from .interaction import interaction
from .mechanism import mechanism
from .neighbours import neighbours
from .place import place
from .quota import quota
from .spread import spread
from .state import state

Group = Callable[[Question, Constraints], None]

GROUPS: tuple[Group, ...] = (state, mechanism, place, hardware, capacity, quota, neighbours, spread, interaction)


def constraints_of(question: Question) -> Constraints:
    """Every constraint that the need's component, application and slice put on nodes."""
    constraints = Constraints()
    for group in GROUPS:
        group(question, constraints)
    return constraints
