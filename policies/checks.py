"""Tells authors whether their policy keeps the contract: `assert_policy(MyPolicy())` in a test, or `shoal policy test
FILE`.

A policy should be pure (the same question gets the same answer, and nothing it is shown is changed), finite,
order-free (a node's score does not depend on its neighbours in the table), quick, and able to explain itself. The
worlds it is tried in are in `worlds.py`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..descriptions.errors import DescriptionError, PluginError
from ..descriptions.options import dump_options, read_options
from .actions import Action, Move, Scale, Set
from .asking import Rating, ask_actions, ask_rating, ask_row
from .loading import policy_from
from .node_table import COLUMNS
from .policy import Policy, adapts, hooks_of, places, scores
from .registry import read_source
from .view import View
from .worlds import APPLICATION, Invented, World, edges, mixed

DEADLINE_S = 1.0
"""What the planner gives a plugin for one component."""

NODES_LARGE = 1000
COMPONENTS = ("camera", "classify", "report")


@dataclass(frozen=True)
class Finding:
    """One check of one policy."""

    check: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Report:
    """All checks of a policy file."""

    policy: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.passed for finding in self.findings)

    def lines(self) -> list[str]:
        """For people, one a check and one for the verdict."""
        told = [f"{'ok  ' if one.passed else 'FAIL'} {one.check}: {one.message}" for one in self.findings]
        failed = sum(not one.passed for one in self.findings)
        return [*told, f"{self.policy}: " + ("keeps the contract" if not failed else f"{failed} checks failed")]


def run_file(path: Path) -> Report:
    """Load the policy in a file with its default options and check it."""
    name = path.stem.replace("_", "-")
    try:
        policy = read_options(policy_from(name, str(path), read_source(path)), {})
    except PluginError as error:
        return Report(name, (Finding("loads", False, error.message),))
    except DescriptionError as error:
        return Report(name, (Finding("loads", False, f"options need defaults to be checked: {error}"),))
    loaded = Finding("loads", True, f"{type(policy).__name__} with {dump_options(policy) or 'no options'}")
    return Report(name, (loaded, *check_policy(policy)))


def check_policy(policy: Policy) -> list[Finding]:
    """Every check that applies to a policy; none of them needs a control plane."""
    checks: list[tuple[str, Callable[[Policy], str]]] = [("documented", _documented)]
    if places(type(policy)):
        checks += [("pure", _pure), ("order-free", _order_free), ("at the edges", _edges), ("quick", _quick)]
    if scores(type(policy)):
        checks += [("one node as in all", _same_alone)]
    if "filter" in hooks_of(type(policy)):
        checks += [("explains itself", _explains)]
    if adapts(type(policy)):
        checks += [("adapts", _adapts)]
    return [_checked(name, check, policy) for name, check in checks]


def assert_policy(policy: Policy) -> None:
    """Raise `AssertionError` with everything that `check_policy` found wrong."""
    wrong = [f"{one.check}: {one.message}" for one in check_policy(policy) if not one.passed]
    assert not wrong, "; ".join(wrong)


def _checked(name: str, check: Callable[[Policy], str], policy: Policy) -> Finding:
    try:
        return Finding(name, True, check(policy))
    except PluginError as error:
        return Finding(name, False, error.message)


def _documented(policy: Policy) -> str:
    text = (type(policy).__doc__ or "").strip().partition("\n")[0]
    # dataclass writes a signature where an author wrote nothing
    if not text or text.startswith(f"{type(policy).__name__}("):
        raise _wrong("say in the class's docstring what it prefers and refuses")
    return text


def _pure(policy: Policy) -> str:
    asked = 0
    before_options = copy.deepcopy(policy)
    for world, view in _situations(policy):
        before = _fingerprint(view)
        first, second = _rate(policy, world, view), _rate(policy, world, view)
        asked += 1
        if not _equal(first, second):
            raise _wrong(f"two answers to the same question differ ({world})")
        if _fingerprint(view) != before:
            raise _wrong(f"it changed what it was shown ({world})")
    if policy != before_options:
        raise _wrong("it changed its own options")
    return f"{asked} questions asked twice"


def _order_free(policy: Policy) -> str:
    forward, backward = mixed(40, _metrics(policy)), mixed(40, _metrics(policy), is_reversed=True)
    for component in COMPONENTS:
        one, other = (_rate(policy, component, world.of(component)) for world in (forward, backward))
        for row, name in enumerate(forward.view.nodes.names):
            there = backward.view.nodes.row_of[name]
            if _at(one, row) != _at(other, there):
                raise _wrong(f"{name} gets {_at(one, row)}, and {_at(other, there)} with the nodes in reverse order")
    return f"{len(forward.view.nodes)} nodes in both orders"


def _edges(policy: Policy) -> str:
    worlds = edges(_metrics(policy))
    for world in worlds:
        for component in COMPONENTS:
            _rate(policy, component, world.of(component))
    return ", ".join(world.name for world in worlds)


def _quick(policy: Policy) -> str:
    world = mixed(NODES_LARGE, _metrics(policy))
    begin_s = time.perf_counter()
    _rate(policy, "classify", world.of("classify"))
    took_s = time.perf_counter() - begin_s
    if took_s > DEADLINE_S:
        raise _wrong(f"{took_s:.2f} s for {NODES_LARGE} nodes, over {DEADLINE_S:g} s")
    return f"{took_s * 1000:.1f} ms for {NODES_LARGE} nodes"


def _same_alone(policy: Policy) -> str:
    """A node asked for alone, as after a replica was placed on it, gets what it gets among all."""
    hooks = hooks_of(type(policy))
    if policy.rescore != "row" and not {"score", "score_all"} <= hooks:
        return "never asked for alone"
    view, component = mixed(40, _metrics(policy)).of("classify"), APPLICATION.spec.components[1]
    rating = _rate(policy, "classify", view)
    for row, name in enumerate(view.nodes.names):
        alone, is_refused = ask_row(_name(policy), policy, component, view, row)
        if rating.raw is not None and alone != rating.raw[row]:
            raise _wrong(f"{name} gets {rating.raw[row]} among all and {alone} alone")
        if rating.refused is not None and is_refused != bool(rating.refused[row]):
            raise _wrong(f"{name} is refused among all or alone, but not both")
    return "each of 40 nodes"


def _explains(policy: Policy) -> str:
    refused = seen = 0
    for world, view in _situations(policy):
        rating = _rate(policy, world, view)
        for row, rejection in rating.reasons.items():
            if len(rejection.reason.strip()) < 5:
                raise _wrong(f"{view.nodes.names[row]} is refused for {rejection.reason!r}: say why, with numbers")
        refused, seen = refused + len(rating.reasons), seen + len(view.nodes)
    if refused == seen:
        raise _wrong("it refuses every node of every world: nothing could ever be placed")
    return f"{refused} of {seen} nodes refused, each with a reason"


def _adapts(policy: Policy) -> str:
    count = 0
    for world in (mixed(40, _metrics(policy)), *edges(_metrics(policy))):
        before = _fingerprint(world.view)
        first, second = (ask_actions(_name(policy), policy, APPLICATION, world.view) for _ in range(2))
        if first != second:
            raise _wrong(f"two looks at the same slice want different things ({world.name})")
        if _fingerprint(world.view) != before:
            raise _wrong(f"it changed what it was shown ({world.name})")
        for action in first:
            _check_action(action, world.view)
        count += len(first)
    return f"{count} actions in 4 worlds"


def _check_action(action: Action, view: View) -> None:
    if not action.reason.strip():
        raise _wrong(f"{type(action).__name__} without a reason")
    parts = {part.name for part in APPLICATION.spec.components}
    if action.component not in parts and not (isinstance(action, Set) and not action.component):
        raise _wrong(f"{type(action).__name__} of {action.component!r}, which is no component of the application")
    if isinstance(action, Move) and action.replica not in {one.id for one in view.replicas.all()}:
        raise _wrong(f"Move of {action.replica!r}, which is no replica")
    if isinstance(action, (Move, Set)) and action.node and action.node not in view.nodes.row_of:
        raise _wrong(f"{type(action).__name__} names the node {action.node!r}, which there is not")
    if isinstance(action, Scale) and action.application != APPLICATION.metadata.name:
        raise _wrong(f"Scale of the application {action.application!r}, which it was not asked about")


def _situations(policy: Policy) -> Iterator[tuple[str, View]]:
    """Component and view, in every world."""
    for world in (mixed(40, _metrics(policy)), *edges(_metrics(policy))):
        for component in COMPONENTS:
            yield component, world.of(component)


def _rate(policy: Policy, component: str, view: View) -> Rating:
    part = next(one for one in APPLICATION.spec.components if one.name == component)
    rating = ask_rating(_name(policy), policy, part, view, np.ones(len(view.nodes), dtype=np.bool_), reasons=True)
    if rating.raw is not None and not np.isfinite(rating.raw).all():
        row = int(np.flatnonzero(~np.isfinite(rating.raw))[0])
        raise _wrong(f"the score of {view.nodes.names[row]} for {component} is {rating.raw[row]}; it must be finite")
    undeclared = view.metrics.undeclared if isinstance(view.metrics, Invented) else set()
    if undeclared:
        raise _wrong(f"it reads {min(undeclared)}, which its `metrics` do not declare")
    return rating


def _equal(one: Rating, other: Rating) -> bool:
    return all(_at(one, row) == _at(other, row) for row in range(_length(one)))


def _length(rating: Rating) -> int:
    known = rating.raw if rating.raw is not None else rating.refused
    return 0 if known is None else len(known)


def _at(rating: Rating, row: int) -> tuple[float | None, str | None]:
    rejection = rating.reasons.get(row)
    return (None if rating.raw is None else float(rating.raw[row])), (None if rejection is None else rejection.reason)


def _fingerprint(view: View) -> tuple[object, ...]:
    columns = tuple(getattr(view.nodes, name).tobytes() for name in COLUMNS)
    facts = tuple((one, tuple(one.labels.items())) for one in view.nodes.facts)
    return columns, repr(facts), tuple(view.replicas.all()), view.application.model_dump_json()


def _wrong(message: str) -> PluginError:
    return PluginError("policy", message)


def _metrics(policy: Policy) -> Invented:
    return Invented(policy.metrics)


def _name(policy: Policy) -> str:
    return type(policy).__name__


__all__ = ["Finding", "Report", "World", "assert_policy", "check_policy", "run_file"]
