"""The same life of a node over the embedded broker and over Mosquitto, with the broker killed in the middle."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from shoal.agents.local import LocalRequest
from shoal.telemetry.broker_process import BrokerProcess

from .harness import AgentProcess, Plane, replica, wait_until

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux")]

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def plane(broker: BrokerProcess) -> Iterator[Plane]:
    one = Plane(broker)
    one.connect()
    yield one
    one.close()


def test_a_node_lives_through_the_death_of_its_broker(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica("app.part.0", SLEEPER)))
    before = plane.wait_for_phase("app.part.0", "ready")
    plane.broker.kill()
    wait_until(lambda: not agent.ask(LocalRequest("status")).connected, "the loss to be seen")
    plane.broker.start()
    beats = len(plane.heard.beats)
    wait_until(lambda: len(plane.heard.beats) > beats, "heartbeats again")
    plane.want(plane.document(2, replica("app.part.0", SLEEPER), replica("app.more.0", SLEEPER)))
    plane.wait_for_phase("app.more.0", "ready")
    assert plane.wait_for_phase("app.part.0", "ready").pid == before.pid
    wait_until(lambda: agent.ask(LocalRequest("status")).waiting == 0, "every event to be acknowledged")
    for events in plane.heard.events.values():
        assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_a_death_without_a_word_is_told_by_the_will(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    wait_until(lambda: plane.heard.states and plane.heard.states[-1].online, "the birth")
    session = plane.heard.states[-1].session
    agent.kill()
    wait_until(lambda: not plane.heard.states[-1].online, "the will")
    will = plane.heard.states[-1]
    assert (will.session, will.clean) == (session, False)
