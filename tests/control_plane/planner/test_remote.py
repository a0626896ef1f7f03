"""Plugins in processes of their own: good ones decide, broken ones are named, counted, fenced and skew nothing."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from shoal.control_plane.planner.decide import Planner
from shoal.control_plane.planner.policies import Policies
from shoal.control_plane.planner.policy_process import ENVIRONMENT
from shoal.control_plane.planner.snapshot import Snapshot
from shoal.descriptions.errors import DescriptionError, PluginError
from shoal.descriptions.kinds.meta import PluginUse
from shoal.policies.registry import PolicySettings

from .small_slice import GIB, app, chosen, need, node, part, placed, record_of, snapshot

pytestmark = pytest.mark.slow  # many processes, one after the other

HEAD = """
from dataclasses import dataclass
import os, sys, time
import numpy as np
from shoal.policies.policy import Policy, Rejection

def _is_socket(fd):
    return os.path.realpath(f"/proc/self/fd/{fd}").rpartition("/")[2].startswith("socket:")

@dataclass(frozen=True)
class Plugin(Policy):
    '''A plugin under test.'''

"""


class Workshop:
    """A folder of policy files, and a planner that uses them."""

    def __init__(self, folder: Path, deadline: float = 1.0) -> None:
        self.folder = folder
        self.policies = Policies(PolicySettings(folder=folder, deadline=deadline))
        self.planner = Planner(self.policies)

    def load(self, body: str) -> None:
        """Load `body` as the class body of the policy `mine`, into the process that is there if there is one."""
        self.write(HEAD + "\n".join(f"    {line}" for line in dedent(body).strip().splitlines()))
        assert self.policies.refresh() == ()

    def write(self, text: str, name: str = "mine") -> None:
        """Write a policy file; its time stamp always moves."""
        path = self.folder / f"{name}.py"
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(text + f"\n# {next(COUNT)}\n")
        os.utime(path, ns=(before + 10**9, before + 10**9))


COUNT = itertools.count()
"""So that every file differs from the one before, and loading it forgives."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """One for all tests: starting a process costs half a second."""
    made = Workshop(tmp_path_factory.mktemp("policies"))
    with made.policies:
        yield made


def two_nodes(*uses: str, count: int = 1) -> Snapshot:
    """n1 is what `balanced` would choose."""
    nodes = [node("n1", hardware={"cpu": 8.0, "memory": 16 * GIB}), node("n2", labels={"zone": "eu"})]
    return snapshot(nodes, app(part(cpu=0.1), policies=[{"use": use} for use in uses or ("mine",)]))


PREFERS_N2 = """
def score(self, component, node, view):
    return 1.0 if node.name == "n2" else 0.0
"""


def test_a_plugin_decides(workshop: Workshop) -> None:
    workshop.load(PREFERS_N2)
    proposal = workshop.planner.decide(two_nodes(), [need()])
    assert chosen(proposal.decisions[0]) == ["n2"]
    assert proposal.faults == ()
    (used,) = record_of(proposal.decisions[0]).policies
    assert used.name == "mine"
    assert used.version.startswith("1+")
    assert len(used.version) == len("1+") + 12


def test_a_plugin_filters_with_a_reason_that_why_tells(workshop: Workshop) -> None:
    workshop.load(
        """
        least: int = 12

        def filter(self, component, node, view):
            if node.memory_bytes_free < self.least * 2**30:
                return Rejection(f"{node.memory_bytes_free >> 30} GiB free, {self.least} wanted", "add memory")
            return None
        """
    )
    there = two_nodes()
    assert chosen(workshop.planner.decide(there, [need()]).decisions[0]) == ["n1"]
    (told,) = workshop.planner.why(there, "app", "part", "n2").nodes
    assert [(one.constraint, one.reason, one.change) for one in told.failures] == [
        ("policy mine", "8 GiB free, 12 wanted", "add memory")
    ]
    strict = app(part(cpu=0.1), policies=[{"use": "mine", "options": {"least": 99}}])
    (decision,) = workshop.planner.decide(snapshot(there.nodes, strict), [need()]).decisions
    assert decision.unplaced == 1
    assert record_of(decision).counts == {"policy mine": 2}


def test_a_plugin_sees_what_the_planner_sees(workshop: Workshop) -> None:
    workshop.load(
        """
        def score_all(self, component, nodes, view):
            told = [
                component.name, view.application.metadata.name, view.slice.metadata.name, view.request.cpu_millis,
                [(r.id, r.node) for r in view.replicas_of("other")], view.rtt_s("n1", "n2"), nodes.names,
                [n.labels.get("zone") for n in nodes], [n.cpu_free for n in nodes], nodes[0].replicas,
                view.wall.isoformat(), nodes.accelerators("gpu").tolist(), nodes[1].location,
            ]
            raise ValueError(repr(told))
        """
    )
    near = [{"to": "node:n1", "latency": 0.004}]
    there = snapshot(
        [node("n1", accelerators=[{"type": "gpu", "count": 2}]), node("n2", network=near, labels={"zone": "eu"})],
        app(part(cpu=0.1), part("other"), policies=[{"use": "mine"}]),
        placements=[placed("other", "n1", cpu=1)],
    )
    (fault,) = workshop.planner.decide(there, [need()]).faults
    expected = [
        "part", "app", "slice", 100, [("app.other.1", "n1")], 0.004, ("n1", "n2"), [None, "eu"], [3.0, 4.0], 1,
        "2026-01-01T12:00:00+00:00", [2, 0], None,
    ]  # fmt: skip
    assert fault.message.startswith(f"ValueError: {expected!r}")


def test_earlier_decisions_of_the_proposal_are_seen(workshop: Workshop) -> None:
    workshop.load(
        """
        def score_all(self, component, nodes, view):
            busy = {replica.node for replica in view.replicas_of("a")}
            return np.array([(n.name in busy) + n.cpu_free / 100 for n in nodes])
        """
    )
    there = snapshot(
        [node("n1"), node("n2")],
        app(part("a", cpu=0.5), part("b", cpu=0.5), policies=[{"use": "mine"}]),
    )
    proposal = workshop.planner.decide(there, [need("a"), need("b")])
    assert [chosen(one) for one in proposal.decisions] == [["n1"], ["n1"]]
    # The same process, another proposal: what the first one tried is forgotten again.
    proposal = workshop.planner.decide(there, [need("b")])
    assert chosen(proposal.decisions[0]) == ["n1"]
    assert proposal.faults == ()


def test_one_round_trip_a_component_unless_asked_for_more(workshop: Workshop) -> None:
    once = "def score(self, component, node, view):\n    return node.cpu_free"
    workshop.load(once)
    there = snapshot([node("n1"), node("n2")], app(part(cpu=0.5), policies=[{"use": "mine"}]))
    assert chosen(workshop.planner.decide(there, [need(count=3)]).decisions[0]) == ["n1", "n1", "n1"]
    for rescore in ("row", "all"):
        workshop.load(f"rescore = {rescore!r}\n\n{once}")
        decision = workshop.planner.decide(there, [need(count=3)]).decisions[0]
        assert chosen(decision) == ["n1", "n2", "n1"]


BROKEN = {
    "raises": ("raise KeyError('zone')", "KeyError: 'zone'"),
    "not a number": ("return np.array([1.0, np.nan])", "score of n2 is nan; scores must be finite"),
    "infinite": ("return np.array([-np.inf, 1.0])", "score of n1 is -inf; scores must be finite"),
    "too short": ("return np.zeros(1)", "scores have shape (1,), there are 2 nodes"),
    "no array": ("return [1.0, 2.0]", "scores must be an array of numbers, not list"),
    "text": ("return np.array(['a', 'b'])", "scores must be an array of numbers, not ndarray"),
    "exits": ("os._exit(3)", "its process ended with status 3"),
    "leaves": ("sys.exit('bye')", "SystemExit: bye"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "its process was ended by signal 11"),
    "eats memory": ("x = bytearray(8 << 30); return np.zeros(2)", "MemoryError"),
    "talks over the wire": (
        "[os.write(fd, b'\\xff' * 64) for fd in range(3, 64) if _is_socket(fd)]; return np.zeros(2)",
        "answered nonsense: ",
    ),
    "trickles": (
        """fd = next(fd for fd in range(3, 64) if _is_socket(fd)); os.write(fd, b'\\xff\\x0f\\0\\0')
    while True: os.write(fd, b'x'); time.sleep(0.05)""",
        "no answer within 1 s",
    ),
    "writes into the columns": (
        "nodes.cpu_millis[0] = 10**9; return np.zeros(2)",
        "ValueError: assignment destination",
    ),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_named_and_the_built_in_decides(workshop: Workshop, case: tuple[str, str]) -> None:
    body, message = case
    workshop.load(f"def score_all(self, component, nodes, view):\n    {body}")
    proposal = workshop.planner.decide(two_nodes(), [need()])
    assert chosen(proposal.decisions[0]) == ["n1"], "as balanced would"
    (fault,) = proposal.faults
    assert fault.policy == "mine"
    assert fault.message.startswith(message)
    assert fault.strikes == 1
    assert not fault.fenced
    names = [(one.name, one.fault) for one in record_of(proposal.decisions[0]).policies]
    assert names == [("mine", fault.message), ("balanced", "")]


def test_output_on_stdout_hurts_nobody(workshop: Workshop) -> None:
    workshop.load(
        """
        def score(self, component, node, view):
            print("garbage" * 100)
            os.write(1, b"\\xff" * 100_000)
            os.write(2, b"\\xff" * 100_000)
            return 1.0 if node.name == "n2" else 0.0
        """
    )
    proposal = workshop.planner.decide(two_nodes(), [need()])
    assert chosen(proposal.decisions[0]) == ["n2"]
    assert proposal.faults == ()


def test_one_that_hangs_is_given_up_after_the_deadline_and_started_again(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, deadline=0.4)
    with workshop.policies:
        flag = tmp_path / "hang"
        workshop.load(
            f"""
            def score(self, component, node, view):
                while os.path.exists({str(flag)!r}):
                    time.sleep(0.01)
                return 1.0 if node.name == "n2" else 0.0
            """
        )
        flag.touch()
        begin_s = time.monotonic()
        proposal = workshop.planner.decide(two_nodes(), [need()])
        assert time.monotonic() - begin_s < 30
        assert chosen(proposal.decisions[0]) == ["n1"]
        assert [one.message for one in proposal.faults] == ["no answer within 0.4 s"]
        flag.unlink()
        proposal = workshop.planner.decide(two_nodes(), [need()])
        assert chosen(proposal.decisions[0]) == ["n2"]


def test_three_strikes_fence_and_loading_again_forgives(workshop: Workshop) -> None:
    workshop.load("def score(self, component, node, view):\n    raise ValueError('no')")
    there = two_nodes()
    faults = [workshop.planner.decide(there, [need()]).faults[0] for _ in range(4)]
    assert [(one.strikes, one.fenced) for one in faults] == [(1, False), (2, False), (3, True), (3, True)]
    assert faults[3].message.startswith("fenced after 3 faults, the last: ValueError: no (mine.py:")
    workshop.load(PREFERS_N2)
    proposal = workshop.planner.decide(there, [need()])
    assert proposal.faults == ()
    assert chosen(proposal.decisions[0]) == ["n2"]


def test_a_fenced_policy_is_not_asked_again_in_the_same_round(workshop: Workshop) -> None:
    workshop.load("def score(self, component, node, view):\n    raise ValueError('no')")
    parts = [part(f"p{at}") for at in range(6)]
    there = snapshot([node("n1")], app(*parts, policies=[{"use": "mine"}]))
    proposal = workshop.planner.decide(there, [need(f"p{at}") for at in range(6)])
    assert all(not one.unplaced for one in proposal.decisions)
    assert [one.strikes for one in proposal.faults] == [3, 3]


def test_a_fault_in_the_middle_of_a_need_starts_it_again(workshop: Workshop) -> None:
    """Otherwise its record could not be replayed: the first replicas would stand where only the broken one wanted."""
    workshop.write(
        """
        rescore = "row"

        def score(self, component, node, view):
            if node.siblings:
                raise ValueError("one is enough")
            return 1.0 if node.name == "n2" else 0.0
        """
    )
    proposal = workshop.planner.decide(two_nodes(), [need(count=2)])
    assert chosen(proposal.decisions[0]) == ["n1", "n2"], "as balanced would from the start"
    assert len(proposal.faults) == 1


def test_a_changed_file_is_loaded_and_a_broken_one_is_not(workshop: Workshop) -> None:
    there = two_nodes()
    workshop.load(PREFERS_N2)
    first = workshop.planner.decide(there, [need()])
    workshop.load(PREFERS_N2.replace('"n2"', '"n1"'))
    second = workshop.planner.decide(there, [need()])
    assert [chosen(one.decisions[0]) for one in (first, second)] == [["n2"], ["n1"]]
    versions = [record_of(one.decisions[0]).policies[0].version for one in (first, second)]
    assert versions[0] != versions[1]
    workshop.write("def score(self component):")
    (fault,) = workshop.policies.refresh()
    assert fault.policy == "mine"
    assert fault.message.startswith("SyntaxError: ")
    assert chosen(workshop.planner.decide(there, [need()]).decisions[0]) == ["n1"], "what was loaded before goes on"


def test_a_removed_file_is_no_policy_any_more(workshop: Workshop) -> None:
    workshop.load(PREFERS_N2)
    assert chosen(workshop.planner.decide(two_nodes(), [need()]).decisions[0]) == ["n2"]
    (workshop.folder / "mine.py").unlink()
    assert workshop.policies.refresh() == ()
    proposal = workshop.planner.decide(two_nodes(), [need()])
    assert proposal.faults[0].message.startswith("no policy 'mine' is enabled")


NO_POLICY = {
    "empty": ("x = 1", "a file defines one policy, this one defines none"),
    "syntax": ("def f(:", "SyntaxError"),
    "import": ("import no_such_module", "ModuleNotFoundError"),
    "misspelt": (
        HEAD + "    def fliter(self, component, node, view): ...",
        "'fliter' is no hook of a policy; did you mean 'filter'?",
    ),
    "no hook": (HEAD + "    pass", "overrides none of filter, score, score_all, analyze, plan"),
    "signature": (HEAD + "    def score(self, node): ...", "'score' takes (self, component, node, view)"),
    "exit": ("import os; os._exit(7)", "its process ended with status 7"),
}


@pytest.mark.parametrize("name", NO_POLICY)
def test_a_file_that_is_no_policy_is_refused_with_the_reason(workshop: Workshop, name: str) -> None:
    text, message = NO_POLICY[name]
    use = f"bad-{name.replace(' ', '-')}"
    workshop.write(text, use)
    assert workshop.policies.refresh() == ()
    with pytest.raises(PluginError) as caught:
        workshop.policies.check(PluginUse(use=use))
    assert message in caught.value.message
    proposal = workshop.planner.decide(two_nodes(use), [need()])
    assert chosen(proposal.decisions[0]) == ["n1"]
    assert message in proposal.faults[0].message


def test_options_are_checked_in_camel_case(workshop: Workshop) -> None:
    workshop.load("rtt_ms_max: float = 5.0\n\n" + dedent(PREFERS_N2))
    workshop.policies.check(PluginUse(use="mine", options={"rttMsMax": 3}))
    with pytest.raises(DescriptionError) as caught:
        workshop.policies.check(PluginUse(use="mine", options={"rttMax": 3}))
    assert caught.value.nearest == "rttMsMax"
    with pytest.raises(DescriptionError):
        workshop.policies.check(PluginUse(use="mine", options={"rttMsMax": "fast"}))


def test_a_policy_process_has_no_secrets_and_few_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_TOKEN", "secret")
    workshop = Workshop(tmp_path)
    with workshop.policies:
        workshop.load(
            """
            def score_all(self, component, nodes, view):
                import resource
                limits = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)]
                raise ValueError(repr([sorted(os.environ), os.getcwd(), limits]))
            """
        )
        (fault,) = workshop.planner.decide(two_nodes(), [need()]).faults
        assert fault.message.startswith(f"ValueError: {[sorted(ENVIRONMENT), '/', [0, 64]]!r}"), fault.message


def test_a_policy_process_is_offline_where_the_kernel_allows(workshop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        workshop.load(
            f"""
            def score_all(self, component, nodes, view):
                import socket
                with socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=0.5):
                    return np.array([0.0, 1.0])
            """
        )
        proposal = workshop.planner.decide(two_nodes(), [need()])
    is_connected = not proposal.faults
    assert is_connected != workshop.policies.info("mine").loaded.is_offline


def test_adaptation_policies_see_mechanisms_and_answer_in_order(workshop: Workshop) -> None:
    workshop.load(
        """
        def analyze(self, application, view):
            from shoal.policies.actions import Assessment
            return [Assessment(application.metadata.name, r.component, "too slow", replica=r.id, node=r.node)
                    for r in view.replicas.of_application(application.metadata.name)]

        def plan(self, assessment, view):
            from shoal.policies.actions import Move, Scale, Set
            offers = [offer.name for offer in view.mechanisms(assessment.node)]
            return [
                Scale(assessment.application, assessment.component, 3, "more"),
                Set(offers[0], "serve", assessment.node, arguments={"a": [1, {"b": None}]}, reason=str(offers)),
                Move(assessment.application, assessment.component, assessment.replica, reason=assessment.reason),
            ]
        """
    )
    there = snapshot(
        [node("n1"), node("n2")],
        app(part(), policies=[{"use": "mine", "weight": 2}]),
        placements=[placed("part", "n2")],
    )
    wishes = workshop.planner.adapt(there)
    assert wishes.faults == ()
    (plan,) = wishes.plans
    assert (plan.policy, plan.weight) == ("mine", 2.0)
    assert [type(one).__name__ for one in plan.actions] == ["Scale", "Set", "Move"]
    assert plan.actions[1].arguments == {"a": [1, {"b": None}]}  # type: ignore[union-attr]
    assert plan.actions[1].reason == "['inference', 'process']"
    assert plan.actions[2].replica == "app.part.1"  # type: ignore[union-attr]
    # It has no say in placement, so the built-in decides.
    assert chosen(workshop.planner.decide(there, [need()]).decisions[0]) == ["n1"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("None", "analyze gave NoneType, not a sequence"),
        ("[1]", "analyze gave int, not Assessment"),
        (
            "[Assessment('app', value=float('nan'))]",
            "analyze gave an assessment whose value or target is no finite number",
        ),
    ],
)
def test_nonsense_from_adaptation_is_a_fault(workshop: Workshop, answer: str, message: str) -> None:
    workshop.load(
        f"""
        def analyze(self, application, view):
            from shoal.policies.actions import Assessment
            return {answer}

        def plan(self, assessment, view):
            return []
        """
    )
    wishes = workshop.planner.adapt(two_nodes())
    assert wishes.plans == ()
    assert [one.message for one in wishes.faults] == [message]
