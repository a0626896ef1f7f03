"""A replica's core: these events give exactly these effects, and no sequence breaks its promises."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shoal.agents.inference.gateway.replica import (
    DEATHS_MAX,
    DEATHS_WINDOW_S,
    DeleteAsked,
    Effect,
    Forget,
    Kill,
    LoadFailed,
    ReplicaCore,
    RestartDue,
    Retire,
    SpecPut,
    StartWorker,
    Switch,
    WakeAt,
    WorkerDied,
    WorkerGone,
    WorkerReady,
    restart_delay_s,
)
from shoal.descriptions.messages.gateway import ServingSpec

ONE = ServingSpec(model="m", path="/one", plugin="onnx")
TWO = ServingSpec(model="m", path="/two", plugin="onnx", version="2")


@pytest.fixture
def core() -> ReplicaCore:
    return ReplicaCore([0], swap_drain_s=30.0)


@pytest.fixture
def ready(core: ReplicaCore) -> ReplicaCore:
    """Serving `ONE` with incarnation 1."""
    core.handle(SpecPut(ONE), 0.0)
    core.handle(WorkerReady(1, "cpu"), 1.0)
    return core


def test_a_new_replica_loads_and_serves(core: ReplicaCore) -> None:
    assert core.handle(SpecPut(ONE), 0.0) == [StartWorker(1, ONE)]
    assert core.phase == "loading"
    assert core.handle(WorkerReady(1, "cuda:0", "as asked"), 1.0) == [Switch(1)]
    assert core.serving is not None
    assert (core.phase, core.serving.device, core.serving.reason) == ("ready", "cuda:0", "as asked")


def test_the_same_spec_again_changes_nothing(core: ReplicaCore) -> None:
    core.handle(SpecPut(ONE), 0.0)
    assert core.handle(SpecPut(replace_spec(ONE)), 0.5) == []
    core.handle(WorkerReady(1, "cpu"), 1.0)
    assert core.handle(SpecPut(replace_spec(ONE)), 2.0) == []


def replace_spec(spec: ServingSpec) -> ServingSpec:
    """An equal specification that is another object."""
    return ServingSpec(model=spec.model, path=spec.path, plugin=spec.plugin, version=spec.version)


def test_a_swap_loads_first_and_drains_after(ready: ReplicaCore) -> None:
    assert ready.handle(SpecPut(TWO), 2.0) == [StartWorker(2, TWO)]
    assert ready.phase == "ready"
    assert ready.serving is not None
    assert ready.serving.spec == ONE
    assert ready.handle(WorkerReady(2, "cpu"), 3.0) == [Switch(2), Retire(1, 30.0)]
    assert ready.serving.spec == TWO
    assert ready.handle(WorkerGone(1), 4.0) == []


def test_a_swap_that_fails_leaves_the_old_one_serving(ready: ReplicaCore) -> None:
    ready.handle(SpecPut(TWO), 2.0)
    assert ready.handle(LoadFailed(2, "no such operator"), 3.0) == [Kill(2)]
    assert ready.phase == "ready"
    assert ready.update is not None
    assert (ready.update.phase, ready.update.reason) == ("broken", "no such operator")
    assert ready.handle(SpecPut(TWO), 4.0) == [StartWorker(3, TWO)], "said again it is tried again"
    assert ready.handle(SpecPut(TWO), 5.0) == []


def test_a_worker_that_dies_in_a_swap_leaves_the_old_one_serving(ready: ReplicaCore) -> None:
    ready.handle(SpecPut(TWO), 2.0)
    assert ready.handle(WorkerDied(2, "killed by SIGSEGV"), 3.0) == []
    assert ready.update is not None
    assert ready.update.reason == "the worker died while loading: killed by SIGSEGV"


def test_back_to_what_serves_drops_the_swap(ready: ReplicaCore) -> None:
    ready.handle(SpecPut(TWO), 2.0)
    assert ready.handle(SpecPut(ONE), 2.5) == [Kill(2)]
    assert ready.update is None
    assert ready.handle(WorkerReady(2, "cpu"), 2.6) == [], "too late"


def test_a_third_spec_replaces_the_second(ready: ReplicaCore) -> None:
    ready.handle(SpecPut(TWO), 2.0)
    three = ServingSpec(model="m", path="/three", plugin="onnx")
    assert ready.handle(SpecPut(three), 2.5) == [Kill(2), StartWorker(3, three)]


def test_a_load_that_fails_is_broken_until_the_next_put(core: ReplicaCore) -> None:
    core.handle(SpecPut(ONE), 0.0)
    assert core.handle(LoadFailed(1, "no model"), 1.0) == [Kill(1)]
    assert core.phase == "broken"
    assert core.handle(SpecPut(ONE), 3.0) == [StartWorker(2, ONE)], "said again it is tried again"
    core.handle(LoadFailed(2, "no model"), 4.0)
    assert core.handle(SpecPut(TWO), 5.0) == [StartWorker(3, TWO)]


def test_deaths_are_answered_with_growing_delays_and_an_end(ready: ReplicaCore) -> None:
    delays = []
    number, now_s = 1, 10.0
    for _ in range(DEATHS_MAX - 1):
        (wake,) = ready.handle(WorkerDied(number, "killed by SIGKILL"), now_s)
        assert isinstance(wake, WakeAt)
        assert ready.phase == "loading"
        delays.append(wake.at_s - now_s)
        (start,) = ready.handle(RestartDue(number), wake.at_s)
        assert isinstance(start, StartWorker)
        number, now_s = start.incarnation, wake.at_s + 1
        assert ready.handle(WorkerReady(number, "cpu"), now_s) == [Switch(number)]
    assert delays == [0, 1, 2, 4]
    assert ready.handle(WorkerDied(number, "killed by SIGKILL"), now_s) == []
    assert ready.phase == "broken"
    assert ready.serving is not None
    assert ready.serving.reason == "5 deaths in 10 minutes; the last: killed by SIGKILL"
    assert ready.restarts == 4


def test_deaths_long_ago_are_forgiven(ready: ReplicaCore) -> None:
    number = 1
    for turn in range(20):
        now_s = turn * (DEATHS_WINDOW_S + 1)
        assert ready.handle(WorkerDied(number, "oom"), now_s) == [WakeAt(number, now_s)]
        (start,) = ready.handle(RestartDue(number), now_s)
        assert isinstance(start, StartWorker)
        number = start.incarnation
        ready.handle(WorkerReady(number, "cpu"), now_s)


def test_a_restart_that_can_not_load_counts_as_a_death(ready: ReplicaCore) -> None:
    ready.handle(WorkerDied(1, "oom"), 10.0)
    ready.handle(RestartDue(1), 10.0)
    assert ready.handle(LoadFailed(2, "no memory"), 11.0) == [Kill(2), WakeAt(2, 12.0)]
    assert ready.phase == "loading"


def test_delete_drains_and_forgets(ready: ReplicaCore) -> None:
    assert ready.handle(DeleteAsked(5.0), 2.0) == [Retire(1, 5.0)]
    assert ready.phase == "stopped"
    assert ready.handle(DeleteAsked(5.0), 2.1) == []
    assert ready.handle(WorkerGone(1), 3.0) == [Forget()]


def test_delete_in_a_swap_ends_both(ready: ReplicaCore) -> None:
    ready.handle(SpecPut(TWO), 2.0)
    assert ready.handle(DeleteAsked(5.0), 3.0) == [Kill(2), Retire(1, 5.0)]
    assert ready.handle(WorkerGone(2), 3.1) == []
    assert ready.handle(WorkerDied(1, "crashed while draining"), 3.2) == [Forget()]


def test_delete_while_waiting_for_a_restart_forgets_at_once(ready: ReplicaCore) -> None:
    ready.handle(WorkerDied(1, "oom"), 2.0)
    assert ready.handle(DeleteAsked(5.0), 2.0) == [Forget()]
    assert ready.handle(RestartDue(1), 3.0) == []


def test_delays() -> None:
    assert [restart_delay_s(deaths) for deaths in range(6)] == [0, 0, 1, 2, 4, 8]


class AnyOrder(RuleBasedStateMachine):
    """Events as a gateway may send them, in any order, with processes that start, load, die and end."""

    def __init__(self) -> None:
        super().__init__()
        self.core = ReplicaCore([0])
        self.now_s = 0.0
        self.running: set[int] = set()
        """Workers that were started and have not ended."""
        self.told_to_end: set[int] = set()
        self.taking: set[int] = set()
        """Workers that get new requests."""
        self.wakes: list[WakeAt] = []
        self.is_forgotten = False

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert not self.is_forgotten
            match effect:
                case StartWorker(incarnation=number):
                    assert number not in self.running
                    self.running.add(number)
                case Switch(incarnation=number):
                    assert number in self.running - self.told_to_end
                    self.taking.add(number)
                case Retire(incarnation=number) | Kill(incarnation=number):
                    assert number in self.running
                    assert number not in self.told_to_end
                    self.told_to_end.add(number)
                    self.taking.discard(number)
                case WakeAt():
                    self.wakes.append(effect)
                case Forget():
                    self.is_forgotten = True

    def handle(self, event: object) -> None:
        self.now_s += 0.1
        self.perform(self.core.handle(event, self.now_s))  # type: ignore[arg-type]

    @precondition(lambda self: not self.core.is_deleted)
    @rule(spec=st.sampled_from([ONE, TWO, replace_spec(ONE)]))
    def put(self, spec: ServingSpec) -> None:
        self.handle(SpecPut(spec))

    @precondition(lambda self: self.running - self.taking)
    @rule(data=st.data(), good=st.booleans())
    def load(self, data: st.DataObject, good: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.running - self.taking)))
        if number not in self.told_to_end:
            self.handle(WorkerReady(number, "cpu") if good else LoadFailed(number, "bad"))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(number)
        self.taking.discard(number)
        asked = number in self.told_to_end
        self.told_to_end.discard(number)
        self.handle(WorkerGone(number) if asked else WorkerDied(number, "died"))

    @precondition(lambda self: self.wakes)
    @rule()
    def wake(self) -> None:
        effect = self.wakes.pop()
        self.now_s = max(self.now_s, effect.at_s)
        self.handle(RestartDue(effect.incarnation))

    @precondition(lambda self: self.core.serving is not None and not self.core.is_deleted)
    @rule()
    def delete(self) -> None:
        self.handle(DeleteAsked(1.0))

    @rule()
    def time_passes(self) -> None:
        self.now_s += 60.0

    @invariant()
    def a_ready_replica_has_exactly_one_worker_that_takes_requests(self) -> None:
        if self.core.phase == "ready":
            assert self.core.serving is not None
            assert self.taking == {self.core.serving.number}
        else:
            assert not self.taking

    @invariant()
    def no_worker_is_left_without_an_owner(self) -> None:
        owned = {each.number for each in (self.core.serving, self.core.update) if each is not None and each.has_worker}
        assert self.running - self.told_to_end <= owned

    @invariant()
    def a_forgotten_replica_has_nothing_left(self) -> None:
        assert self.is_forgotten == (self.core.is_deleted and not self.running)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=200, stateful_step_count=30)
