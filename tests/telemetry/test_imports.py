"""What an agent imports of this room stays small: none of the control plane's libraries comes with it (design §1)."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "numpy",
    "pydantic",
    "aiohttp",
    "prometheus_client",
    "google.protobuf",
    "opentelemetry.proto",
    "amqtt",
    "requests",
)
AGENT = ("link", "reader", "host", "processes", "serving", "receiver", "logs", "encoding", "rates", "credentials")


def test_agents_modules_load_nothing_heavy() -> None:
    imports = "\n".join(f"import shoal.telemetry.{name}" for name in AGENT)
    program = f"import sys\n{imports}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_otlp_exporter_loads_protobuf_only_when_it_exports() -> None:
    program = "import sys, shoal.telemetry.otlp; print('google.protobuf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
