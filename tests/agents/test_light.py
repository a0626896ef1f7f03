"""What `shoal agent` loads: importing it, and running it until it is joined, connected and has measured (design §1)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .harness import AgentProcess, Plane, replica, wait_until

HEAVY = (
    "pydantic", "pydantic_core", "aiohttp", "typer", "rich", "sqlalchemy", "alembic", "numpy", "grpc",
    "prometheus_client", "onnxruntime", "amqtt", "click", "matplotlib",
)  # fmt: skip
"""Top-level packages that have no place in a small node's memory."""


def test_importing_the_agent_loads_nothing_heavy() -> None:
    script = (
        "import sys, shoal.__main__, shoal.agents.cli, shoal.agents.run, shoal.agents.service\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.strip() == ""


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux")
def test_running_the_agent_loads_nothing_heavy(plane: Plane, agent: AgentProcess) -> None:
    """What is mapped and what is imported, of an agent that runs a process and has sent telemetry and events."""
    agent.start(preload="import atexit, sys; atexit.register(lambda: print('LOADED', *sys.modules, flush=True))")
    plane.want(plane.document(1, replica("app.part.0", (sys.executable, "-c", "import time; time.sleep(600)"))))
    plane.wait_for_phase("app.part.0", "ready")
    wait_until(lambda: plane.heard.telemetry.get("lo"), "telemetry")
    wait_until(lambda: "ReplicaReady" in plane.reasons(), "events")
    assert agent.stop() == 0
    (loaded,) = [line.split()[1:] for line in agent.log().splitlines() if line.startswith("LOADED")]
    assert "shoal.agents.agent" in loaded
    assert {name.partition(".")[0] for name in loaded} & set(HEAVY) == set()
