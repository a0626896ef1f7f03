"""Tables of one replica's life: these observations give exactly these starts, stops and reports."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgspec
import pytest

from shoal.agents.failures import Failures
from shoal.agents.reconcile_events import StartFinished
from shoal.agents.replica import DRAIN_S, STOP_AGAIN_S, STOP_S, Allowed, Replica, Start, Stop, mechanism_of
from shoal.descriptions.messages.desired import (
    InferenceTask,
    ListenPort,
    PluginTask,
    ProcessTask,
    ReadyCheck,
    ReplicaSpec,
    Task,
)
from shoal.mechanisms.runner import Observation, RunPhase, run_digest

ALLOWED = Allowed(
    lease_held=True,
    draining=False,
    mechanisms=frozenset({"process", "inference"}),
    observed=frozenset({"process", "inference"}),
)
PROCESS = ProcessTask(command=("sleep", "1"))


def spec_of(task: Task = PROCESS, revision: int = 1, single: bool = False) -> ReplicaSpec:
    return ReplicaSpec(
        id="app.part.0", application="app", component="part", revision=revision, task=task, single_instance=single
    )


def seen(spec: ReplicaSpec, phase: RunPhase, message: str = "", exit_ok: bool = False) -> Observation:
    return Observation(spec.id, run_digest(spec), spec.revision, phase, message, exit_ok=exit_ok)


class Driver:
    """A replica with its runner's answers written down by the test."""

    def __init__(self, spec: ReplicaSpec, allowed: Allowed = ALLOWED) -> None:
        self.replica = Replica(spec.id, Random(0))
        self.replica.want(spec)
        self.allowed = allowed
        self.now_s = 100.0

    def converge(self) -> list[Start | Stop]:
        return list(self.replica.converge(self.allowed, self.now_s))

    def started(self, spec: ReplicaSpec, phase: RunPhase = "starting") -> None:
        event = StartFinished("e", spec.id, run_digest(spec), seen(spec, phase))
        self.replica.start_finished(event, self.now_s)

    def observe(self, *observations: Observation) -> None:
        self.replica.observe("process", {one.digest: one for one in observations}, self.now_s)

    def phase(self) -> str | None:
        report = self.replica.report(self.allowed)
        return report.phase if report else None

    def wake_s(self) -> float:
        wake_s = self.replica.wake_s(self.allowed, self.now_s)
        assert wake_s is not None
        return wake_s


def test_from_pending_to_ready_to_stopped() -> None:
    spec = spec_of()
    driver = Driver(spec)
    assert driver.phase() == "pending"
    assert driver.converge() == [Start("process", spec, run_digest(spec))]
    assert driver.phase() == "starting"
    assert driver.converge() == []  # asked for once
    driver.started(spec)
    driver.observe(seen(spec, "ready"))
    assert (driver.phase(), driver.converge()) == ("ready", [])
    driver.replica.want(None)
    assert driver.converge() == [Stop("process", run_digest(spec), STOP_S)]
    assert driver.phase() == "stopping"
    driver.observe()
    assert driver.replica.is_gone
    assert driver.phase() is None


def test_nothing_starts_before_its_runner_told_what_it_runs() -> None:
    driver = Driver(spec_of(), replace(ALLOWED, observed=frozenset({"inference"})))
    assert driver.converge() == []
    driver.allowed = ALLOWED
    assert len(driver.converge()) == 1


def test_what_an_earlier_agent_started_is_adopted() -> None:
    spec = spec_of()
    driver = Driver(spec)
    driver.observe(seen(spec, "ready"))
    assert (driver.converge(), driver.phase()) == ([], "ready")


def test_a_changed_revision_is_made_before_the_old_one_is_broken() -> None:
    old, new = spec_of(), spec_of(revision=2)
    driver = Driver(old)
    driver.observe(seen(old, "ready"))
    driver.replica.want(new)
    assert driver.converge() == [Start("process", new, run_digest(new))]
    driver.started(new)
    report = driver.replica.report(ALLOWED)
    assert report is not None
    assert (report.phase, report.revision, report.message) == ("ready", 1, "the next revision: starting")
    driver.observe(seen(old, "ready"), seen(new, "ready"))
    assert driver.converge() == [Stop("process", run_digest(old), STOP_S)]
    report = driver.replica.report(ALLOWED)
    assert report is not None
    assert (report.phase, report.revision) == ("ready", 2)


def test_a_failing_new_revision_leaves_the_old_one_serving() -> None:
    old, new = spec_of(), spec_of(revision=2)
    driver = Driver(old)
    driver.observe(seen(old, "ready"))
    driver.replica.want(new)
    driver.converge()
    driver.replica.start_finished(StartFinished("e", new.id, run_digest(new), None, "no such program"), driver.now_s)
    assert driver.converge() == []
    report = driver.replica.report(ALLOWED)
    assert report is not None
    assert (report.phase, report.revision, report.message) == ("ready", 1, "the next revision: no such program")


@pytest.mark.parametrize(
    ("new", "single"),
    [
        pytest.param(
            spec_of(ProcessTask(command=("a",), ports=(ListenPort("http", 8000),)), 2), False, id="fixed port"
        ),
        pytest.param(spec_of(revision=2, single=True), True, id="single instance"),
    ],
)
def test_what_must_not_overlap_stops_first(new: ReplicaSpec, single: bool) -> None:
    old = spec_of(single=single)
    driver = Driver(old)
    driver.observe(seen(old, "ready"))
    driver.replica.want(new)
    assert driver.converge() == [Stop("process", run_digest(old), STOP_S)]
    driver.observe()
    assert driver.converge() == [Start("process", new, run_digest(new))]


def test_draining_gives_requests_time_and_starts_nothing() -> None:
    spec = spec_of()
    driver = Driver(spec)
    driver.observe(seen(spec, "ready"))
    driver.replica.want(msgspec.structs.replace(spec, draining=True))
    assert driver.converge() == [Stop("process", run_digest(spec), DRAIN_S)]
    driver.observe()
    assert (driver.converge(), driver.phase()) == ([], None)


def test_single_instances_need_a_lease() -> None:
    spec = spec_of(single=True)
    driver = Driver(spec, replace(ALLOWED, lease_held=False))
    assert (driver.converge(), driver.phase()) == ([], "pending")
    driver.allowed = ALLOWED
    assert driver.converge() == [Start("process", spec, run_digest(spec))]
    driver.started(spec, "ready")
    driver.allowed = replace(ALLOWED, lease_held=False)
    assert driver.converge() == [Stop("process", run_digest(spec), STOP_S)]


@pytest.mark.parametrize(
    ("restart", "exit_ok", "phase", "starts_again"),
    [
        ("always", True, "notReady", True),
        ("always", False, "notReady", True),
        ("onFailure", False, "notReady", True),
        ("onFailure", True, "notReady", False),
        ("never", True, "notReady", False),
        ("never", False, "failed", False),
    ],
)
def test_restart_policies(restart: str, exit_ok: bool, phase: str, starts_again: bool) -> None:
    spec = spec_of(msgspec.convert({"command": ["a"], "restart": restart}, ProcessTask))
    driver = Driver(spec)
    driver.observe(seen(spec, "ready"))
    driver.observe(seen(spec, "exited", "ended", exit_ok))
    assert (driver.converge(), driver.phase()) == ([], phase)  # never at once
    if starts_again:
        driver.now_s = driver.wake_s()
    assert [type(action) for action in driver.converge()] == ([Start] if starts_again else [])


def test_backoff_grows_and_ends_as_a_crash_loop() -> None:
    spec = spec_of()
    driver = Driver(spec)
    waits = []
    for _ in range(12):
        assert len(driver.converge()) == 1
        driver.started(spec)
        driver.observe(seen(spec, "exited", "ended with code 1"))
        waits.append(driver.wake_s() - driver.now_s)
        driver.now_s = driver.wake_s()
    for wait, nominal in zip(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300], strict=True):
        assert nominal * 0.9 <= wait <= nominal * 1.1
    assert driver.phase() == "failed"
    report = driver.replica.report(ALLOWED)
    assert report is not None
    assert report.restarts == 12


def test_a_healthy_minute_forgets_failures() -> None:
    failures = Failures(Random(0))
    for now_s in range(5):
        failures.add(float(now_s), "died", 0.0)
    loops = [failures.is_loop]
    failures.add(1000.0, "died", 61.0)
    assert [*loops, failures.is_loop] == [True, False]
    assert failures.not_before_s < 1001.2


def test_a_changed_specification_forgets_failures() -> None:
    spec = spec_of()
    driver = Driver(spec)
    driver.converge()
    driver.replica.start_finished(StartFinished("e", spec.id, run_digest(spec), None, "no", True), driver.now_s)
    assert (driver.converge(), driver.phase()) == ([], "failed")  # refused: reported at once, tried again much later
    assert driver.wake_s() - driver.now_s > 200
    changed = spec_of(revision=2)
    driver.replica.want(changed)
    assert driver.converge() == [Start("process", changed, run_digest(changed))]


def test_what_is_not_ready_in_time_is_stopped_and_tried_again() -> None:
    spec = spec_of(ProcessTask(command=("a",), ports=(ListenPort("p"),), ready=ReadyCheck("p", timeout_s=5.0)))
    driver = Driver(spec)
    driver.converge()
    driver.started(spec)
    assert driver.converge() == []
    assert driver.wake_s() == driver.now_s + 5
    driver.now_s = driver.wake_s()
    assert driver.converge() == [Stop("process", run_digest(spec), 0.0)]
    driver.observe()
    report = driver.replica.report(ALLOWED)
    assert report is not None
    assert (report.phase, report.message) == ("notReady", "not ready in time")
    driver.now_s = driver.wake_s()
    assert len(driver.converge()) == 1


def test_a_stop_that_did_nothing_is_told_again() -> None:
    spec = spec_of()
    driver = Driver(spec)
    driver.observe(seen(spec, "ready"))
    driver.replica.want(None)
    driver.converge()
    driver.observe(seen(spec, "ready"))
    assert driver.converge() == []
    assert driver.wake_s() == driver.now_s + STOP_S + STOP_AGAIN_S
    driver.now_s = driver.wake_s()
    assert driver.converge() == [Stop("process", run_digest(spec), STOP_S)]
    assert driver.wake_s() > driver.now_s  # no busy loop


def test_wanted_again_while_stopping_waits_for_the_end() -> None:
    spec = spec_of()
    driver = Driver(spec)
    driver.observe(seen(spec, "ready"))
    driver.replica.want(None)
    driver.converge()
    driver.replica.want(spec)
    assert driver.converge() == []
    driver.observe()
    assert driver.converge() == [Start("process", spec, run_digest(spec))]


def test_a_look_from_before_the_start_changes_nothing() -> None:
    spec = spec_of()
    driver = Driver(spec)
    driver.observe(seen(spec, "failed", "broken"))
    driver.now_s = driver.wake_s()
    assert len(driver.converge()) == 1
    driver.observe(seen(spec, "failed", "broken"))
    driver.started(spec)
    assert driver.phase() == "starting"


def test_a_mechanism_that_is_not_enabled_is_a_failure_with_its_name() -> None:
    spec = spec_of(PluginTask(mechanism="container"))
    driver = Driver(spec)
    assert driver.converge() == []
    report = driver.replica.report(ALLOWED)
    assert report is not None
    assert (report.phase, report.message) == ("failed", "the mechanism 'container' is not enabled on this node")


@pytest.mark.parametrize(
    ("task", "name"),
    [(PROCESS, "process"), (InferenceTask("m", "1", "onnx"), "inference"), (PluginTask("fan"), "fan")],
)
def test_runner_of_each_task(task: Task, name: str) -> None:
    assert mechanism_of(spec_of(task)) == name


def test_the_digest_names_what_runs_and_nothing_else() -> None:
    spec = spec_of()
    assert run_digest(spec) == run_digest(msgspec.structs.replace(spec, draining=True, interacts=("digits",)))
    for other in (spec_of(revision=2), spec_of(single=True), spec_of(ProcessTask(("sleep", "2")))):
        assert run_digest(other) != run_digest(spec)
