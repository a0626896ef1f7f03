"""Asks a policy that runs in this process: the built-ins, and plugins under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Component
from ...policies.actions import Action
from ...policies.asking import Rating, ask_actions, ask_rating, ask_row
from ...policies.node_table import BoolArray
from ...policies.policy import Policy, Rescore, adapts, places, scores
from ...policies.reading import MetricUse
from ...policies.view import View


@dataclass(frozen=True, eq=False)
class Local:
    """A policy instance; it satisfies `Decider`."""

    name: str
    policy: Policy
    weight: float = 1.0
    options: str = "{}"

    @property
    def version(self) -> str:
        """Of the class."""
        return self.policy.version

    @property
    def rescore(self) -> Rescore:
        """As the class says."""
        return self.policy.rescore

    @property
    def is_placing(self) -> bool:
        """Whether it filters or scores."""
        return places(type(self.policy))

    @property
    def is_scoring(self) -> bool:
        """Whether it scores."""
        return scores(type(self.policy))

    @property
    def is_adapting(self) -> bool:
        """Whether it analyses and plans."""
        return adapts(type(self.policy))

    @property
    def metrics(self) -> tuple[MetricUse, ...]:
        """As the class says."""
        return self.policy.metrics

    def rate(self, component: Component, view: View, asked: BoolArray, *, reasons: bool = False) -> Rating:
        """Ask the hooks that the policy overrides."""
        return ask_rating(self.name, self.policy, component, view, asked, reasons=reasons)

    def rate_row(self, component: Component, view: View, row: int) -> tuple[float, bool]:
        """Ask for one row again."""
        return ask_row(self.name, self.policy, component, view, row)

    def adapt(self, application: Application, view: View) -> Sequence[Action]:
        """Analyse, then plan for each assessment."""
        return ask_actions(self.name, self.policy, application, view)
