"""`check_policy` finds what breaks the contract, and `run_file` says it to people and programs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shoal.descriptions.kinds.application import Application, Component
from shoal.policies.actions import Action, Assessment, Move, Scale
from shoal.policies.checks import assert_policy, check_policy, run_file
from shoal.policies.policy import Policy, Rejection, Rescore
from shoal.policies.reading import MetricUse
from shoal.policies.view import FloatArray, NodeTable, NodeView, View


@dataclass(frozen=True)
class Random(Policy):
    """Not pure: another answer each time."""

    def score(self, component: Component, node: NodeView, view: View) -> float:
        return random.random()


@dataclass(frozen=True)
class Remembers(Policy):
    """Not pure: keeps what it saw in its options."""

    seen: list[str] = field(default_factory=list)

    def score(self, component: Component, node: NodeView, view: View) -> float:
        self.seen.append(node.name)
        return 1.0


@dataclass(frozen=True)
class Meddles(Policy):
    """Not pure: changes a label."""

    def score(self, component: Component, node: NodeView, view: View) -> float:
        node.labels["seen"] = "yes"  # type: ignore[index]
        return 1.0


@dataclass(frozen=True)
class Ordered(Policy):
    """Not order-free: scores by place in the table."""

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        return np.arange(len(nodes), dtype=np.float64)


@dataclass(frozen=True)
class Divides(Policy):
    """Not finite: divides by a capacity that may be nothing."""

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        with np.errstate(all="ignore"):
            return nodes.cpu_millis_free / nodes.cpu_millis


@dataclass(frozen=True)
class Raises(Policy):
    """Breaks where a node describes no power source."""

    def score(self, component: Component, node: NodeView, view: View) -> float:
        return 1 / node.co2_g_per_kwh  # type: ignore[operator]


@dataclass(frozen=True)
class Mute(Policy):
    """Refuses without a reason."""

    def filter(self, component: Component, node: NodeView, view: View) -> Rejection | None:
        return Rejection("no") if node.layer == "cloud" else None


@dataclass(frozen=True)
class Never(Policy):
    """Refuses everything."""

    def filter(self, component: Component, node: NodeView, view: View) -> Rejection | None:
        return Rejection("nothing is ever good enough")


@dataclass(frozen=True)
class Disagrees(Policy):
    """Its `score` and `score_all` differ."""

    rescore: Rescore = "row"  # type: ignore[misc]

    def score(self, component: Component, node: NodeView, view: View) -> float:
        return 1.0

    def score_all(self, component: Component, nodes: NodeTable, view: View) -> FloatArray:
        return np.full(len(nodes), 2.0)


@dataclass(frozen=True)
class Undeclared(Policy):
    """Reads a metric that it does not declare."""

    def score(self, component: Component, node: NodeView, view: View) -> float:
        reading = view.reading("system.cpu.utilization", node=node.name)
        return -reading.value if reading else 0.0


@dataclass(frozen=True)
class Declared(Undeclared):
    """Reads a metric that it declares."""

    metrics = (MetricUse("system.cpu.utilization"),)


@dataclass(frozen=True)
class Undocumented(Policy):
    def score(self, component: Component, node: NodeView, view: View) -> float:
        return 1.0


@dataclass(frozen=True)
class Wild(Policy):
    """Moves a replica that is not there."""

    def analyze(self, application: Application, view: View) -> Sequence[Assessment]:
        return [Assessment(application.metadata.name, "classify", "slow")]

    def plan(self, assessment: Assessment, view: View) -> Sequence[Action]:
        return [Move("shop", "classify", "shop.classify.99", reason="slow")]


@dataclass(frozen=True)
class Calm(Policy):
    """Wants one replica more where there is one."""

    def analyze(self, application: Application, view: View) -> Sequence[Assessment]:
        return [Assessment(application.metadata.name, one.component, "busy") for one in view.replicas.all()]

    def plan(self, assessment: Assessment, view: View) -> Sequence[Action]:
        return [Scale(assessment.application, assessment.component, 4, assessment.reason)]


@pytest.mark.parametrize(
    ("policy", "check", "message"),
    [
        (Random(), "pure", "two answers to the same question differ"),
        (Remembers(), "pure", "it changed its own options"),
        (Meddles(), "pure", "it changed what it was shown"),
        (Ordered(), "order-free", "with the nodes in reverse order"),
        (Divides(), "at the edges", "it must be finite"),
        (Raises(), "at the edges", "TypeError"),
        (Mute(), "explains itself", "say why, with numbers"),
        (Never(), "explains itself", "nothing could ever be placed"),
        (Disagrees(), "one node as in all", "gets 2.0 among all and 1.0 alone"),
        (Undeclared(), "pure", "which its `metrics` do not declare"),
        (Undocumented(), "documented", "say in the class's docstring"),
        (Wild(), "adapts", "which is no replica"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Policy) else "",
)
def test_what_breaks_the_contract_is_found(policy: Policy, check: str, message: str) -> None:
    wrong = {one.check: one.message for one in check_policy(policy) if not one.passed}
    assert message in wrong[check]
    with pytest.raises(AssertionError, match=check):
        assert_policy(policy)


@pytest.mark.parametrize("policy", [Declared(), Calm()], ids=lambda policy: type(policy).__name__)
def test_what_keeps_the_contract_passes(policy: Policy) -> None:
    assert [one for one in check_policy(policy) if not one.passed] == []


GOOD = '''
from dataclasses import dataclass
from shoal.policies.policy import Policy

@dataclass(frozen=True)
class Roomy(Policy):
    """Prefer nodes with room."""

    factor: float = 2.0

    def score(self, component, node, view):
        return node.memory_bytes_free * self.factor
'''


def test_a_file_is_checked_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "roomy.py"
    path.write_text(GOOD)
    report = run_file(path)
    assert report.passed
    assert report.policy == "roomy"
    lines = report.lines()
    assert lines[0].startswith("ok   loads: Roomy")
    assert lines[-1] == "roomy: keeps the contract"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "SyntaxError"),
        ("", "defines none"),
        (GOOD.replace("factor: float = 2.0", "factor: float"), "options need defaults"),
        (GOOD.replace("@dataclass(frozen=True)", ""), "'factor' is no option yet"),
        (GOOD.replace("return node", "raise ValueError('oh'); return node"), "ValueError: oh (broken.py:12)"),
    ],
    ids=["syntax", "empty", "no default", "no dataclass", "raises"],
)
def test_a_broken_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    report = run_file(path)
    assert not report.passed
    assert any(message in line for line in report.lines()), report.lines()
