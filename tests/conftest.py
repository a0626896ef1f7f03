"""Rules of the whole test-suite: what counts as a system test, and that CI never passes on a missing server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from shoal.telemetry.broker_process import BrokerProcess, EmbeddedBroker, Mosquitto, find_mosquitto
from shoal.telemetry.credentials import BrokerCredentials

ROOT = Path(__file__).resolve().parent
# Shared and slow machines are no reason to fail: no test asserts how fast something is.
hypothesis.settings.register_profile("shoal", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shoal")
CASES: dict[str, object] = {}
"""Number of inputs tried, by test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "system" in item.path.relative_to(ROOT).parts[:1]:
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skip for a missing server is a failure: a green run must not hide a hole."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and "missing server" in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name, for Unix sockets: pytest's own are too long for them under xdist."""
    with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
        yield Path(folder)


@pytest.fixture
def count_case(record_property: Callable[[str, object], None]) -> Iterator[Callable[[], None]]:
    """Call it for each input tried (Hypothesis, schemathesis): the totals stand at the end of the run."""
    tried = 0

    def count() -> None:
        nonlocal tried
        tried += 1

    yield count
    record_property("cases", tried)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # By way of reports, because under xdist the tests run in other processes than the one that prints.
    if report.when == "teardown":
        CASES.update((report.nodeid, value) for name, value in report.user_properties if name == "cases")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not CASES:
        return
    by_file: dict[str, int] = {}
    for test, count in CASES.items():
        by_file[test.partition("::")[0]] = by_file.get(test.partition("::")[0], 0) + int(str(count))
    terminalreporter.section("cases tried")
    for file, count in sorted(by_file.items()):
        terminalreporter.write_line(f"{count:>8,} {file}")
    terminalreporter.write_line(f"{sum(by_file.values()):>8,} in all")


# Brokers of slice `test`, each with its data in the test's folder: `url`, `password(username)`, `kill()`, `start()`.


@pytest.fixture
def embedded_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker", BrokerCredentials.create("test")) as broker:
        yield broker


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    if find_mosquitto() is None:
        pytest.skip("missing server: mosquitto")
    with Mosquitto(tmp_path / "mosquitto", BrokerCredentials.create("test")) as broker:
        yield broker


@pytest.fixture(params=["embedded_broker", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> BrokerProcess:
    """Each broker in turn."""
    process: BrokerProcess = request.getfixturevalue(request.param)
    return process
