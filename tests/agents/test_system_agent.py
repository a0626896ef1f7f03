"""The agent as a real process, over a real broker, told what to do by signed documents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest

from shoal.agents.local import LocalRequest
from shoal.descriptions.errors import RefusedError
from shoal.descriptions.messages.desired import MechanismSetting, Settings
from shoal.descriptions.messages.lease import Command, Spread
from shoal.descriptions.messages.logs import LogChunk
from shoal.descriptions.signing import generate_key, seal
from shoal.mechanisms.arguments import values
from shoal.mechanisms.process_handle import start_time

from .harness import NODE, TOKEN, AgentProcess, Plane, replica, wait_until

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux")]

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
NAME = "app.part.0"


# --- joining --------------------------------------------------------------------------------------------------------


def test_join_then_run_what_is_wanted(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    report = plane.wait_for_phase(NAME, "ready")
    assert start_time(report.pid)
    ((authorization, request),) = plane.joins
    assert authorization == f"Bearer {TOKEN}"
    assert (request.name, request.layer, request.inventory.cpu) == ("node-1", "edge", len(os.sched_getaffinity(0)))
    identity = agent.state / "identity.json"
    assert identity.stat().st_mode & 0o777 == 0o600
    assert agent.state.stat().st_mode & 0o777 == 0o700
    assert TOKEN not in agent.log()
    assert "api-token" not in agent.log()
    reported = plane.heard.reports[-1]
    assert {mechanism.name for mechanism in reported.mechanisms} == {"inference", "process"}
    assert {condition.type: condition.status for condition in reported.conditions}["DiskPressure"] == "False"


def test_a_lost_reply_is_asked_for_again_with_the_same_nonce(plane: Plane, agent: AgentProcess) -> None:
    plane.refuse_join = 503
    agent.start()
    wait_until(lambda: len(plane.joins) >= 2, "a second attempt")
    plane.refuse_join = 0
    wait_until(lambda: plane.heard.beats, "a heartbeat")
    assert len({request.nonce for _, request in plane.joins}) == 1


def test_a_refused_token_ends_the_agent(plane: Plane, agent: AgentProcess) -> None:
    plane.refuse_join = 401
    agent.start()
    assert agent.wait() == 4
    assert "answers 401" in agent.log()
    assert TOKEN not in agent.log()


def test_sigterm_ends_an_agent_that_is_still_joining(plane: Plane, agent: AgentProcess) -> None:
    plane.refuse_join = 503
    agent.start()
    wait_until(lambda: plane.joins, "an attempt")
    assert agent.stop() == 0


def test_a_node_that_has_joined_never_joins_again(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    wait_until(lambda: plane.heard.beats, "a heartbeat")
    assert agent.stop() == 0
    (agent.folder / "token").unlink()
    before = len(plane.heard.beats)
    agent.start()
    wait_until(lambda: len(plane.heard.beats) > before, "a heartbeat of the second run")
    assert len(plane.joins) == 1


def test_one_agent_a_state_folder(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    wait_until(lambda: plane.heard.beats, "a heartbeat")
    other = AgentProcess(agent.folder, agent.run, plane.url)
    other.start()
    assert other.wait() == 4
    assert "another agent has" in agent.log()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("mechanisms", {"container": {}}, "there is no container mechanism yet"),
        ("mechanisms", {"proces": {}}, "did you mean 'process'?"),
        ("mechanisms", {"process": {"programms": []}}, "did you mean 'programs'?"),
        ("layer", "fog", "expected one of cloud, edge-infrastructure, edge, far-edge"),
        ("name", "Not A Name", "is not a node name"),
    ],
)
def test_a_wrong_configuration_is_named(agent: AgentProcess, key: str, value: object, told: str) -> None:
    agent.config[key] = value
    agent.start()
    assert agent.wait() == 2
    assert told in agent.log()


# --- desired state --------------------------------------------------------------------------------------------------


def test_a_change_is_made_before_the_old_one_is_broken(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    old = plane.wait_for_phase(NAME, "ready")
    plane.want(plane.document(2, replica(NAME, SLEEPER, revision=2)))
    new = plane.wait_for_phase(NAME, "ready", revision=2)
    assert new.pid != old.pid
    wait_until(lambda: not start_time(old.pid), "the old one to end")
    plane.want(plane.document(3))
    wait_until(lambda: not start_time(new.pid), "the new one to end")
    wait_until(lambda: plane.report_of(NAME) is None, "the report without it")


def test_a_document_behind_a_url(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want_by_url(plane.document(1, replica(NAME, SLEEPER)))
    plane.wait_for_phase(NAME, "ready")


def test_another_document_behind_the_url_than_was_announced_is_not_taken(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want_by_url(plane.document(5, replica(NAME, SLEEPER)))
    plane.blobs["/v1/blobs/document"] = plane.sealed(plane.document(4), "down/desired")
    wait_until(lambda: "another document is at the URL" in agent.log(), "the refusal")
    plane.blobs["/v1/blobs/document"] = plane.sealed(plane.document(5, replica(NAME, SLEEPER)), "down/desired")
    plane.wait_for_phase(NAME, "ready")


def test_unsigned_foreign_and_older_documents_are_not_taken(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(5, replica(NAME, SLEEPER)))
    before = plane.wait_for_phase(NAME, "ready")
    empty = plane.document(6)
    topic = plane.topic("down/desired")
    bad = [
        msgspec.json.encode(empty),
        seal(generate_key(), msgspec.json.encode(empty), context=topic),
        seal(plane.key, msgspec.json.encode(empty), context=topic.replace(NODE, "other-node")),
        plane.sealed(plane.document(4), "down/desired"),
        plane.sealed(msgspec.structs.replace(empty, fence=0), "down/desired"),
        plane.sealed(msgspec.structs.replace(empty, node="other-node"), "down/desired"),
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
    ]
    for payload in bad:
        plane.raw("down/desired", payload)
    plane.command(Command("after", "measure", 1, 30.0))
    assert plane.result_of("after").ok
    assert start_time(before.pid)
    assert plane.heard.reports[-1].observed_generation == 5


def test_garbage_on_every_channel_ends_nothing(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    wait_until(lambda: plane.heard.beats, "a heartbeat")
    for channel in ("down/lease", "down/ack", "down/cmd", "down/unknown", "_/state", "_/spread"):
        for payload in (b"", b"{}", b'{"stream":7}', b"\x00" * 1000, b'{"windowS":-1e308}'):
            plane.raw(channel, payload)
    plane.raw("_/spread", msgspec.json.encode(Spread(0.0)))
    plane.command(Command("after", "measure", 1, 30.0))
    assert plane.result_of("after").ok


# --- restarts -------------------------------------------------------------------------------------------------------


def test_a_killed_agent_leaves_its_processes_and_finds_them_again(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    before = plane.wait_for_phase(NAME, "ready")
    agent.kill()
    assert start_time(before.pid)
    seen = len(plane.heard.reports)
    agent.start()
    wait_until(lambda: len(plane.heard.reports) > seen, "a report of the second run")
    after = plane.wait_for_phase(NAME, "ready")
    assert (after.pid, after.restarts) == (before.pid, 0)
    assert plane.heard.reports[-1].incarnation == 2


def test_sigterm_says_goodbye_and_leaves_everything_running(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    report = plane.wait_for_phase(NAME, "ready")
    assert agent.stop() == 0
    wait_until(lambda: not plane.heard.states[-1].online, "the goodbye")
    assert plane.heard.states[-1].clean
    assert start_time(report.pid)


def test_stop_replicas_ends_what_runs(plane: Plane, agent: AgentProcess) -> None:
    agent.start("--stop-replicas")
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    report = plane.wait_for_phase(NAME, "ready")
    assert agent.stop() == 0
    assert not start_time(report.pid)


def test_offline_start_serves_the_last_known_good(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    report = plane.wait_for_phase(NAME, "ready")
    agent.kill()
    os.killpg(report.pid, signal.SIGKILL)  # as a reboot would
    plane.broker.kill()  # no network in sight
    agent.start()

    def serves() -> bool:
        try:
            found = agent.ask(LocalRequest("status"))
        except RefusedError:
            return False
        return [one.phase for one in found.report.replicas] == ["ready"] and not found.connected

    wait_until(serves, "the last known good to run")
    assert agent.stop() == 0


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_slot_falls_back_to_the_other(plane: Plane, agent: AgentProcess, damage: str) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    plane.wait_for_phase(NAME, "ready")
    plane.want(plane.document(2, replica(NAME, SLEEPER), replica("app.more.0", SLEEPER)))
    plane.wait_for_phase("app.more.0", "ready")
    agent.kill()
    plane.disconnect()
    newer = agent.state / "desired-b"
    data = newer.read_bytes()
    changed = {"torn": data[:-40], "flipped": data[:-40] + b"!" + data[-39:], "empty": b""}
    newer.write_bytes(changed[damage])
    agent.start()
    wait_until(lambda: "generation=1 started from disk" in agent.log(), "the older document")
    plane.connect()  # whose retained document is still generation 2
    plane.wait_for_generation(2)
    wait_until(lambda: "SlotDamaged" in plane.reasons(), "the event of it")


def test_a_damaged_database_is_put_aside_and_a_new_stream_begun(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    plane.wait_for_phase(NAME, "ready")
    wait_until(lambda: "ReplicaReady" in plane.reasons(), "the events")
    assert agent.stop() == 0
    database = agent.state / "state.db"
    database.write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    streams = set(plane.heard.events)
    agent.start()
    wait_until(lambda: "DatabaseQuarantined" in plane.reasons(), "the event of it")
    assert set(plane.heard.events) - streams  # never a guess about the old one
    assert (agent.state / "state.db.damaged1").exists()
    assert plane.wait_for_phase(NAME, "ready").restarts == 0


# --- outbox ---------------------------------------------------------------------------------------------------------


def test_events_reach_the_control_plane_once_through_kills_and_absences(plane: Plane, agent: AgentProcess) -> None:
    plane.acknowledges = False
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    plane.wait_for_phase(NAME, "ready")
    wait_until(lambda: "ReplicaReady" in plane.reasons(), "the events, not acknowledged")
    agent.kill()
    plane.disconnect()
    plane.acknowledges = True
    agent.start()
    wait_until(lambda: "run 2" in agent.log(), "the second run")
    plane.connect()
    wait_until(lambda: plane.reasons().count("AgentStarted") == 2, "events of both runs")
    wait_until(lambda: agent.ask(LocalRequest("status")).waiting == 0, "every event to be acknowledged")
    for events in plane.heard.events.values():
        assert [event.seq for event in events] == list(range(1, len(events) + 1))  # no gap, nothing twice


def test_events_of_an_absence_are_spooled_and_sent_on_return(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    report = plane.wait_for_phase(NAME, "ready")
    wait_until(lambda: "ReplicaReady" in plane.reasons(), "the first event")
    plane.broker.kill()
    os.killpg(report.pid, signal.SIGKILL)
    wait_until(lambda: agent.ask(LocalRequest("status")).report.replicas[0].restarts == 1, "the restart, offline")
    plane.broker.start()
    wait_until(lambda: plane.reasons().count("ReplicaReady") == 2, "the event of the absence")


# --- commands -------------------------------------------------------------------------------------------------------


def test_a_command_is_done_once(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    before = plane.wait_for_phase(NAME, "ready")
    command = Command("restart-1", "restart", 1, 30.0, values(replica=NAME))
    plane.command(command)
    first = plane.result_of("restart-1")
    assert first.ok
    wait_until(
        lambda: (found := plane.report_of(NAME)) and found.pid != before.pid and found.phase == "ready", "a new pid"
    )
    after = plane.wait_for_phase(NAME, "ready")
    agent.kill()
    births = len(plane.heard.states)
    agent.start()
    wait_until(lambda: [state.online for state in plane.heard.states[births:]][-1:] == [True], "the second birth")
    plane.command(command)  # the memory of it is on disk
    wait_until(lambda: [one.id for one in plane.heard.results].count("restart-1") == 2, "the second answer")
    assert plane.result_of("restart-1") == first
    assert start_time(after.pid)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Command("c", "restart", 1, 30.0, values(replica="no.such.0")), "no replica 'no.such.0' here"),
        (Command("c", "restart", 0, 30.0, values(replica=NAME)), "fence 0 is below 1"),
        (Command("c", "restart", 1, 0.0, values(replica=NAME)), "its deadline has passed"),
        (Command("c", "explode", 1, 30.0), "no verb 'explode'; there are logs, measure, restart"),
        (Command("c", "logs", 1, 30.0, values(replica="no.such.0")), "no.such.0 has written nothing here"),
        (Command("c", "logs", 1, 30.0, values(tail=-1)), "LogRequest"),
    ],
)
def test_commands_that_are_refused(plane: Plane, agent: AgentProcess, command: Command, message: str) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    plane.wait_for_phase(NAME, "ready")
    plane.command(command)
    result = plane.result_of("c")
    assert not result.ok
    assert message in result.message


def test_logs_of_a_replica_are_read_and_followed(plane: Plane, agent: AgentProcess) -> None:
    script = (
        "import os, time\nprint('one\\ntwo\\nthree', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    )
    agent.start()
    plane.want(
        plane.document(1, replica(NAME, (sys.executable, "-c", f"{script}print('four', flush=True)\ntime.sleep(600)")))
    )
    plane.wait_for_phase(NAME, "ready")
    log = agent.state / "process" / "logs" / f"{NAME}.log"
    wait_until(lambda: log.read_text().count("\n") == 3, "three lines")
    plane.command(Command("l1", "logs", 1, 30.0, values(component="app.part", tail=2)))
    chunk = msgspec.json.decode(plane.result_of("l1").body, type=LogChunk)
    assert [(entry.replica, entry.line) for entry in chunk.entries] == [(NAME, "two"), (NAME, "three")]
    (agent.state / "process" / "work" / NAME / "go").touch()
    wait_until(lambda: log.read_text().count("\n") == 4, "the fourth line")
    plane.command(Command("l2", "logs", 1, 30.0, values(component="app.part", cursor=chunk.cursor)))
    chunk = msgspec.json.decode(plane.result_of("l2").body, type=LogChunk)
    assert [entry.line for entry in chunk.entries] == ["four"]
    plane.command(Command("l3", "logs", 1, 30.0, values(tail=500)))
    chunk = msgspec.json.decode(plane.result_of("l3").body, type=LogChunk)
    assert any("connected" in entry.line for entry in chunk.entries)


# --- telemetry, settings, lease -------------------------------------------------------------------------------------


def test_telemetry_flows_at_the_rate_of_the_document(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    quick = Settings(heartbeat_s=0.5, lease_s=4.0, telemetry_interval_s=0.2, telemetry_rates={"system.cpu": 0.2})
    plane.want(plane.document(1, settings=quick))
    wait_until(lambda: plane.heard.telemetry.get("hi", 0) >= 3, "what a policy asks for")
    wait_until(lambda: plane.heard.telemetry.get("lo", 0) >= 3, "everything else")


def test_settings_of_a_mechanism_are_applied_and_undone(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    pid = plane.wait_for_phase(NAME, "ready").pid
    every = os.sched_getaffinity(pid)
    setting = MechanismSetting("process", NAME, "setCpu", values(cpu=1))
    plane.want(plane.document(2, replica(NAME, SLEEPER), mechanisms=(setting,)))
    wait_until(lambda: len(os.sched_getaffinity(pid)) == 1, "one core")
    agent.kill()
    agent.start()
    plane.want(plane.document(3, replica(NAME, SLEEPER)))
    wait_until(lambda: os.sched_getaffinity(pid) == every, "all cores again")
    wait_until(lambda: {"SettingApplied", "SettingUndone"} <= set(plane.reasons()), "the events of it")


def test_a_setting_that_nobody_offers_is_a_condition(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    setting = MechanismSetting("process", "", "configure", values(programs=["sh"]))
    plane.want(plane.document(1, mechanisms=(setting,)))

    def told() -> bool:
        conditions = {one.type: one for one in plane.heard.reports[-1].conditions} if plane.heard.reports else {}
        found = conditions.get("SettingsApplied")
        return found is not None and found.status == "False" and "not 'configure'" in found.message

    wait_until(told, "the condition")


def test_a_single_instance_ends_without_leases_and_starts_again_with_them(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    single = msgspec.structs.replace(replica(NAME, SLEEPER), single_instance=True)
    other = replica("app.other.0", SLEEPER)
    plane.want(plane.document(1, single, other))
    pid = plane.wait_for_phase(NAME, "ready").pid
    others = plane.wait_for_phase("app.other.0", "ready").pid
    plane.grants_leases = False
    wait_until(lambda: not start_time(pid), "the end of it")
    plane.wait_for_phase(NAME, "pending")
    assert start_time(others)  # everything else runs on
    plane.grants_leases = True
    plane.wait_for_phase(NAME, "ready")


def test_a_killed_agent_cannot_keep_a_single_instance_alive(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, msgspec.structs.replace(replica(NAME, SLEEPER), single_instance=True)))
    pid = plane.wait_for_phase(NAME, "ready").pid
    agent.kill()
    wait_until(lambda: not start_time(pid), "its guard to end it")


def test_a_restart_within_the_lease_keeps_a_single_instance(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.lease_s = 60.0
    plane.want(plane.document(1, msgspec.structs.replace(replica(NAME, SLEEPER), single_instance=True)))
    pid = plane.wait_for_phase(NAME, "ready").pid
    agent.kill()
    seen = len(plane.heard.reports)
    agent.start()
    wait_until(lambda: len(plane.heard.reports) > seen, "a report of the second run")
    assert plane.wait_for_phase(NAME, "ready").pid == pid


# --- the local socket -----------------------------------------------------------------------------------------------


def test_status_and_drain_on_the_node(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica(NAME, SLEEPER)))
    report = plane.wait_for_phase(NAME, "ready")
    shoal = [sys.executable, "-m", "shoal", "agent", "--config", str(agent.folder / "agent.yaml")]
    told = subprocess.run([*shoal, "status"], capture_output=True, text=True, check=True).stdout
    assert "node-1 of slice test" in told
    assert f"ready     {NAME} revision 1, pid {report.pid}" in told
    found = json.loads(subprocess.run([*shoal, "status", "-o", "json"], capture_output=True, check=True).stdout)
    assert (found["connected"], found["idle"]) == (True, False)
    drained = subprocess.run([*shoal, "drain"], capture_output=True, text=True, check=True)
    assert drained.stdout == "nothing runs here any more\n"
    assert not start_time(report.pid)
    wait_until(
        lambda: any(one.type == "Draining" and one.status == "True" for one in plane.heard.reports[-1].conditions),
        "the condition",
    )
    subprocess.run([*shoal, "drain", "--undo"], capture_output=True, check=True)
    plane.wait_for_phase(NAME, "ready")
    assert (agent.run / "agent.sock").stat().st_mode & 0o777 == 0o600
    agent.stop()
    refused = subprocess.run([*shoal, "status"], capture_output=True, text=True)
    assert (refused.returncode, "no agent runs here" in refused.stderr) == (4, True)
