"""The agent as a real process, over a real broker, told what to do by signed documents."""

from __future__ import annotations

import sys

import pytest

from shoal.mechanisms.process_handle import start_time

from .harness import AgentProcess, Plane, replica

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux")]

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")


def test_join_then_run_what_is_wanted(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    plane.want(plane.document(1, replica("app.part.0", SLEEPER)))
    report = plane.wait_for_phase("app.part.0", "ready")
    assert start_time(report.pid)
