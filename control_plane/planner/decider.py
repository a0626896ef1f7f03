"""A policy as the planner asks it, wherever it runs: scores and refusals of all nodes for one component.

`local.py` asks a policy in this process, `remote.py` one in a policy process. Whatever goes wrong in either is a
`PluginError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Component
from ...policies.actions import Action
from ...policies.asking import Rating
from ...policies.node_table import BoolArray
from ...policies.policy import Rescore
from ...policies.reading import MetricUse
from ...policies.view import View


class Decider(Protocol):
    """A policy with its options, as an application or the slice uses it."""

    @property
    def name(self) -> str:
        """Under which it is registered."""
        ...

    @property
    def version(self) -> str:
        """Of the code that answers."""
        ...

    @property
    def weight(self) -> float:
        """Factor of its scaled score."""
        ...

    @property
    def options(self) -> str:
        """JSON, camelCase, sorted."""
        ...

    @property
    def rescore(self) -> Rescore:
        """What changes with each replica of a need."""
        ...

    @property
    def is_placing(self) -> bool:
        """Whether it filters or scores."""
        ...

    @property
    def is_scoring(self) -> bool:
        """Whether it scores."""
        ...

    @property
    def is_adapting(self) -> bool:
        """Whether it analyses and plans."""
        ...

    @property
    def metrics(self) -> tuple[MetricUse, ...]:
        """What it reads through its view."""
        ...

    def rate(self, component: Component, view: View, asked: BoolArray, *, reasons: bool = False) -> Rating:
        """Filter and score the nodes in `asked` (the rest may be left out)."""
        ...

    def rate_row(self, component: Component, view: View, row: int) -> tuple[float, bool]:
        """Score and refusal of one node again, after a replica was placed on it."""
        ...

    def adapt(self, application: Application, view: View) -> Sequence[Action]:
        """Analyse an application and plan what to do about it."""
        ...
