"""Asks a policy object: calls the hooks that it overrides, checks what they give, and turns all that goes wrong into
`PluginError`.

The border to authors' code. The planner uses it for built-ins, the policy process for plugins, `checks.py` for tests.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ..descriptions.errors import PluginError
from ..descriptions.kinds.application import Application, Component
from .actions import Action, Assessment, Move, Scale, Set
from .node_table import BoolArray, FloatArray, NodeTable
from .policy import Policy, Rejection, hooks_of, scores
from .view import View

T = TypeVar("T")

ACTIONS_MAX = 10_000
"""Assessments, and actions, that one look at one application may give."""

TOLD_MAX = 500
"""Characters of an error's message that are kept."""


@dataclass(frozen=True, eq=False)
class Rating:
    """One policy's answer for all nodes; values where nobody asked mean nothing."""

    raw: FloatArray | None = None
    """Finite where asked; None for a policy that only refuses."""
    refused: BoolArray | None = None
    """None for a policy that only scores."""
    reasons: Mapping[int, Rejection] = field(default_factory=dict)
    """By row; only where reasons were asked for."""


def ask_rating(
    name: str, policy: Policy, component: Component, view: View, asked: BoolArray, *, reasons: bool = False
) -> Rating:
    """Filter and score the nodes in `asked`, shape `(nodes,)`."""
    is_filtering, is_scoring = "filter" in hooks_of(type(policy)), scores(type(policy))
    refusals = _guarded(name, lambda: _refusals(name, policy, component, view, asked)) if is_filtering else {}
    answer = _guarded(name, lambda: policy.score_all(component, view.nodes, view)) if is_scoring else None
    raw = check_scores(name, answer, view.nodes) if is_scoring else None
    if not is_filtering:
        return Rating(raw)
    refused = np.zeros(len(view.nodes), dtype=np.bool_)
    refused[list(refusals)] = True
    return Rating(raw, refused, refusals if reasons else {})


def ask_row(name: str, policy: Policy, component: Component, view: View, row: int) -> tuple[float, bool]:
    """Score and refusal of one node, by the numbers of the moment."""
    hooks, one = hooks_of(type(policy)), view.nodes.only(row)
    is_refused = False
    if "filter" in hooks:
        answer = _guarded(name, lambda: policy.filter(component, one[0], view))
        is_refused = _check_rejection(name, answer) is not None
    if "score" in hooks:
        return _check_score(name, _guarded(name, lambda: policy.score(component, one[0], view))), is_refused
    if "score_all" not in hooks:
        return 0.0, is_refused
    raw = _guarded(name, lambda: policy.score_all(component, one, view))
    return float(check_scores(name, raw, one)[0]), is_refused


def ask_actions(name: str, policy: Policy, application: Application, view: View) -> tuple[Action, ...]:
    """Analyse an application, then plan for each assessment."""
    assessments = _guarded(name, lambda: policy.analyze(application, view))
    check_answers(name, "analyze", assessments, (Assessment,))
    actions: list[Action] = []
    for assessment in assessments:
        planned = _guarded(name, lambda: policy.plan(assessment, view))  # noqa: B023  # called at once
        check_answers(name, "plan", planned, (Move, Scale, Set))
        actions.extend(planned)
        check_answers(name, "plan", actions, (Move, Scale, Set))
    return tuple(actions)


def check_scores(policy: str, scores: object, nodes: NodeTable) -> FloatArray:
    """Scores as a new float64 array of shape `(nodes,)`; whether they are finite shows when they are ranked."""
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiub":
        raise PluginError(policy, f"scores must be an array of numbers, not {type(scores).__name__}")
    if scores.shape != (len(nodes),):
        raise PluginError(policy, f"scores have shape {scores.shape}, there are {len(nodes)} nodes")
    return np.array(scores, dtype=np.float64)  # a copy: single rows are written when they are asked for again


def _check_score(policy: str, score: object) -> float:
    if isinstance(score, (int, float, np.number)):
        return float(score)
    raise PluginError(policy, f"a score must be a number, not {type(score).__name__}")


def check_answers(policy: str, hook: str, answers: object, kinds: tuple[type, ...]) -> None:
    """Refuse anything but a bounded sequence of the expected dataclasses; numbers in them must be finite."""
    if not isinstance(answers, (list, tuple)):
        raise PluginError(policy, f"{hook} gave {type(answers).__name__}, not a sequence")
    if len(answers) > ACTIONS_MAX:
        raise PluginError(policy, f"{hook} gave {len(answers)} answers, over the limit of {ACTIONS_MAX}")
    for answer in answers:
        if not isinstance(answer, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise PluginError(policy, f"{hook} gave {type(answer).__name__}, not {expected}")
        if isinstance(answer, Scale) and not _is_count(answer.replicas):
            raise PluginError(policy, f"{hook} wants {answer.replicas!r} replicas")
        if isinstance(answer, Assessment) and not all(_is_number(one) for one in (answer.value, answer.target)):
            raise PluginError(policy, f"{hook} gave an assessment whose value or target is no finite number")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))


def told(error: BaseException) -> str:
    """An author's exception in a line: type, message, and where in their file it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:TOLD_MAX] + where


def _guarded(name: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # the border to authors' code
        raise PluginError(name, told(error)) from error


def _refusals(name: str, policy: Policy, component: Component, view: View, asked: BoolArray) -> dict[int, Rejection]:
    refusals: dict[int, Rejection] = {}
    nodes, refuse = view.nodes.views, policy.filter
    for row in np.flatnonzero(asked).tolist():
        answer = refuse(component, nodes[row], view)
        if answer is not None:
            refusals[row] = _check_rejection(name, answer)
    return refusals


def _check_rejection(name: str, answer: T) -> T:
    if answer is not None and not isinstance(answer, Rejection):
        raise PluginError(name, f"filter gave {type(answer).__name__}, not a Rejection or None")
    return answer
