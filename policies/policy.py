"""The contract of policies: a frozen dataclass whose fields are its options and whose methods are hooks.

Placement policies override `filter` and `score` (or `score_all`); adaptation policies override `analyze` and `plan`.
Hooks are pure and synchronous: all they may know is in their arguments. `control_plane/planner/` calls the built-ins,
the policy process (`process.py`) calls everything else; `checks.py` tells authors whether theirs keeps the contract.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..descriptions.errors import PluginError
from ..descriptions.kinds.application import Application, Component
from .actions import Action, Assessment
from .reading import MetricUse

if TYPE_CHECKING:
    from .node_table import FloatArray, NodeTable
    from .node_view import NodeView
    from .view import View

PLACEMENT_HOOKS = ("filter", "score", "score_all")
ADAPTATION_HOOKS = ("analyze", "plan")
HOOKS = PLACEMENT_HOOKS + ADAPTATION_HOOKS

Rescore = Literal["never", "row", "all"]


@dataclass(frozen=True)
class Rejection:
    """Why a policy refuses a node."""

    reason: str
    """With numbers: `620 ms to camera-1, over 500 ms`."""
    change: str = ""
    """The smallest change that would lift it, where the policy knows one."""


@dataclass(frozen=True)
class Policy:
    """Decides where replicas go, what to adapt, or both.

    Subclasses are frozen dataclasses; their fields, with defaults, are the options that YAML fills in camelCase. The
    docstring's first line is what `shoal get policies` shows.
    """

    version: ClassVar[str] = "1"
    """Kept in decision records; the digest of its source is added for plugins."""
    operator_options: ClassVar[frozenset[str]] = frozenset()
    """Fields that only the operator's configuration may set, such as a folder."""
    metrics: ClassVar[tuple[MetricUse, ...]] = ()
    """What the hooks read through `View.reading`."""
    rescore: ClassVar[Rescore] = "never"
    """What to score again after each replica of a need with several: nothing, the chosen node, or all nodes. A plugin
    costs one round trip to its process each time."""

    _hooks: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuse a class that overrides no hook, misspells one or has it take other arguments."""
        super().__init_subclass__(**keywords)
        for name, value in vars(cls).items():
            if not name.startswith("_") and _is_method(value):
                _check_hook(cls, name, value)
        hooks = frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Policy, name))
        cls._hooks = hooks
        if not hooks:
            raise PluginError(cls.__name__, f"overrides none of {', '.join(HOOKS)}")
        if len(hooks & set(ADAPTATION_HOOKS)) == 1:
            raise PluginError(cls.__name__, "an adaptation policy overrides both analyze and plan")

    def filter(self, component: Component, node: NodeView, view: View) -> Rejection | None:
        """Say why a replica of `component` must not stand on `node`, or None."""
        return None

    def score(self, component: Component, node: NodeView, view: View) -> float:
        """How good `node` is for another replica: finite, more is better, any unit."""
        return 0.0

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        """`score` of all nodes at once: shape `(len(nodes),)` float64; only values of feasible nodes are looked at.

        A policy that has both, for speed, gives the same numbers in both; `score` is asked for single nodes.
        """
        from .node_table import scores_of

        return scores_of([self.score(component, node, view) for node in nodes])

    def analyze(self, application: Application, view: View) -> Sequence[Assessment]:
        """What should change about `application`; nothing most of the time."""
        return ()

    def plan(self, assessment: Assessment, view: View) -> Sequence[Action]:
        """What to do about one assessment of `analyze`."""
        return ()


def hooks_of(policy: type[Policy]) -> frozenset[str]:
    """Names of the hooks that a class overrides, itself or by a parent."""
    return policy._hooks


def places(policy: type[Policy]) -> bool:
    """Whether it takes part in placement."""
    return not hooks_of(policy).isdisjoint(PLACEMENT_HOOKS)


def scores(policy: type[Policy]) -> bool:
    """Whether it prefers some nodes to others."""
    return not hooks_of(policy).isdisjoint(("score", "score_all"))


def adapts(policy: type[Policy]) -> bool:
    """Whether it takes part in adaptation."""
    return not hooks_of(policy).isdisjoint(ADAPTATION_HOOKS)


def _is_method(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, (property, staticmethod, classmethod))


def _check_hook(policy: type[Policy], name: str, value: object) -> None:
    if name not in HOOKS:
        nearest = difflib.get_close_matches(name, HOOKS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "start the names of your own methods with an underscore"
        raise PluginError(policy.__name__, f"{name!r} is no hook of a policy; {hint}")
    if not inspect.isfunction(value) or inspect.iscoroutinefunction(value):
        raise PluginError(policy.__name__, f"{name!r} must be a plain method")
    wanted = list(inspect.signature(getattr(Policy, name)).parameters)
    if len(inspect.signature(value).parameters) != len(wanted):
        raise PluginError(policy.__name__, f"{name!r} takes ({', '.join(wanted)})")
