"""The pages say what the code does; and amqtt still has the inner methods that the embedded broker replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from amqtt.broker import Broker
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler

from shoal.telemetry import processes, serving
from shoal.telemetry.acl import mosquitto_acl
from shoal.telemetry.broker_embedded import EmbeddedBroker
from shoal.telemetry.broker_process import Mosquitto
from shoal.telemetry.broker_protocol import Handler
from shoal.telemetry.credentials import BrokerCredentials
from shoal.telemetry.host import observe_host
from shoal.telemetry.reader import RateReader

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_lists_every_metric(tmp_path: Path) -> None:
    reader = RateReader()
    observe_host(reader, tmp_path)
    names = {sample.series.name for sample in reader.collect_due(0.0).low}
    names |= {name for name, _, _, _ in serving.NUMBERS} | {serving.LATENCY}
    names |= {processes.CPU, processes.CPU_TIME, processes.MEMORY, processes.PSS, processes.THREADS, processes.FILES}
    page = (DOCS / "telemetry.md").read_text(encoding="utf-8")
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_the_page_recommends_what_the_tests_run_mosquitto_with(tmp_path: Path) -> None:
    page = (DOCS / "wire.md").read_text(encoding="utf-8")
    ours = Mosquitto(tmp_path, BrokerCredentials.create("test"), port=1883)._configuration().splitlines()
    settings = [line for line in ours if line.startswith(("max_", "persistent_", "check_", "set_tcp", "allow_"))]
    assert len(settings) == 8
    assert [line for line in settings if line not in page] == []
    assert "%u" in mosquitto_acl("test")


@pytest.mark.parametrize(
    ("ours", "theirs", "own"),
    [
        (EmbeddedBroker, Broker, {"_refusal", "_take_over", "_receivers", "_keep"}),
        (Handler, BrokerProtocolHandler, set[str]()),
    ],
)
def test_what_the_embedded_broker_replaces_is_still_there(ours: type, theirs: type, own: set[str]) -> None:
    """A method that amqtt renames would silently bring its flaw back."""
    replaced = {name for name in vars(ours) if name.startswith("_") and not name.startswith("__")} - own
    assert {name for name in replaced if not hasattr(theirs, name)} == set()
    assert len(replaced) >= 2
