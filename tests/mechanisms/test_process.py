"""The process mechanism with real processes: start, limits, readiness, logs, stop, adoption, guard, verbs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from shoal.descriptions.errors import RefusedError, ShoalError, TransportError
from shoal.descriptions.mechanism import MechanismCommand
from shoal.descriptions.messages.desired import ProcessTask, ReplicaSpec
from shoal.mechanisms.arguments import values
from shoal.mechanisms.log_files import last_lines
from shoal.mechanisms.process import Process
from shoal.mechanisms.process_handle import boot_id, start_time
from shoal.mechanisms.process_record import Records
from shoal.mechanisms.runner import Host, Observation, run_digest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="agents serve on Linux")

DEADLINE_S = 20.0
PYTHON = sys.executable


def spec_of(script: str, *, name: str = "app.part.0", **task: object) -> ReplicaSpec:
    made = msgspec.convert({"command": [PYTHON, "-c", script], **task}, ProcessTask)
    return ReplicaSpec(id=name, application="app", component="part", revision=1, task=made)


class Node:
    """A folder for state, one for runtime, and the mechanism that the test opens over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = 0
        self.gateway = ""

    def host(self) -> Host:
        (self.folder / "run").mkdir(exist_ok=True)
        return Host(
            "node-1", "demo", self.folder / "state", self.folder / "run", self.changed,
            gateway_url=lambda: self.gateway, otlp_url=lambda: "http://127.0.0.1:4318",
        )  # fmt: skip

    def changed(self, mechanism: str) -> None:
        assert mechanism == "process"
        self.changes += 1

    @asynccontextmanager
    async def process(self, **options: object) -> AsyncIterator[Process]:
        one = Process(programs=(PYTHON,), **options)  # type: ignore[arg-type]
        await one.open(self.host())
        try:
            yield one
        finally:
            await one.close()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Whatever the test did, its processes end with it."""
    yield
    for record in Records(tmp_path / "run" / "processes").load(boot_id()):
        if start_time(record.pid) == record.start_time:
            os.killpg(record.pid, signal.SIGKILL)


async def until(one: Process, holds: Callable[[tuple[Observation, ...]], bool]) -> tuple[Observation, ...]:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds(found := await one.observe()):
        assert time.monotonic() < deadline_s, found
        await asyncio.sleep(0.02)
    return found


def logs(one: Process, replica: str, lines: int) -> str:
    path = one.log_file(replica)
    assert path is not None
    return last_lines(path, lines)


def phase_is(phase: str) -> Callable[[tuple[Observation, ...]], bool]:
    return lambda found: [one.phase for one in found] == [phase]


def gone(found: tuple[Observation, ...]) -> bool:
    return found == ()


def run(test: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def test_a_program_runs_with_its_environment_and_is_stopped(node: Node) -> None:
    spec = spec_of(
        "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(60)",
        env={"COLOUR": "blue"}, ports=[{"name": "http-in"}],
    )  # fmt: skip

    async def test() -> None:
        async with node.process() as one:
            started = await one.start(spec, run_digest(spec))
            assert started.phase == "starting"
            (found,) = await until(one, phase_is("ready"))
            assert found.pid == started.pid
            assert os.getsid(found.pid) == found.pid  # a session of its own
            while not (text := logs(one, spec.id, 10)):
                await asyncio.sleep(0.02)
            env = json.loads(text)
            assert (env["COLOUR"], env["SHOAL_REPLICA"], env["SHOAL_NODE"]) == ("blue", "app.part.0", "node-1")
            assert env["SHOAL_PORT_HTTP_IN"] == str(dict(found.ports)["http-in"])
            assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
            assert not {"SHOAL_AGENT_TOKEN", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST"} & env.keys()
            before = node.changes
            await one.stop(spec.id, run_digest(spec), 5.0)
            await until(one, gone)
            assert node.changes > before  # the pidfd told
            assert start_time(found.pid) == 0
            assert not (node.folder / "state" / "process" / "work" / spec.id).exists()

    run(test())


def test_limits_are_on_the_program_itself(node: Node) -> None:
    script = (
        "import os, resource as r, time; "
        "found = r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_DATA)[0], len(os.sched_getaffinity(0)); "
        "print(*found, flush=True); "
        "time.sleep(60)"
    )
    spec = msgspec.structs.replace(spec_of(script, openFiles=77), cpu=1.0, memory_bytes=256 << 20)

    async def test() -> None:
        async with node.process(cgroups=False) as one:
            await one.start(spec, run_digest(spec))
            while not (text := logs(one, spec.id, 1)):
                await asyncio.sleep(0.02)
            assert text == f"77 {256 << 20} 1"

    run(test())


def test_memory_over_the_limit_ends_the_program(node: Node) -> None:
    spec = msgspec.structs.replace(spec_of("x = bytearray(1 << 30)"), memory_bytes=64 << 20)

    async def test() -> None:
        async with node.process(cgroups=False) as one:
            await one.start(spec, run_digest(spec))
            (found,) = await until(one, phase_is("exited"))
            assert found.message == "ended with code 1: MemoryError"
            assert not found.exit_ok

    run(test())


@pytest.mark.parametrize(("code", "ok"), [(0, True), (3, False)])
def test_exit_codes(node: Node, code: int, ok: bool) -> None:
    spec = spec_of(f"raise SystemExit({code})")

    async def test() -> None:
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            (found,) = await until(one, phase_is("exited"))
            assert (found.message, found.exit_ok, found.pid) == (f"ended with code {code}", ok, 0)
            again = await one.start(spec, run_digest(spec))
            assert again.pid not in (0, found.pid)
            await until(one, phase_is("exited"))
            await one.stop(spec.id, run_digest(spec), 5.0)
            assert await one.observe() == ()

    run(test())


SERVER = """
import http.server, os, threading, time
ok = os.environ.get("OK", "1")
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" and os.path.exists("go") else 503); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["SHOAL_PORT_HTTP"])), H).serve_forever()
"""


def test_readiness_by_http_follows_the_program(node: Node) -> None:
    spec = spec_of(SERVER, ports=[{"name": "http"}], ready={"port": "http", "path": "/ready"})
    flag = node.folder / "state" / "process" / "work" / spec.id / "go"

    async def test() -> None:
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            await until(one, phase_is("starting"))
            flag.touch()
            await until(one, phase_is("ready"))
            flag.unlink()
            await until(one, phase_is("notReady"))

    run(test())


def test_readiness_by_port(node: Node) -> None:
    spec = spec_of(SERVER, ports=[{"name": "http"}], ready={"port": "http"})

    async def test() -> None:
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            await until(one, phase_is("ready"))

    run(test())


def test_an_agent_that_restarts_adopts_what_runs(node: Node) -> None:
    spec = spec_of(SERVER, ports=[{"name": "http"}], ready={"port": "http"})

    async def test() -> None:
        async with node.process() as first:
            await first.start(spec, run_digest(spec))
            (before,) = await until(first, phase_is("ready"))
        async with node.process() as second:
            (after,) = await until(second, phase_is("ready"))
            assert (after.pid, after.digest, after.ports) == (before.pid, run_digest(spec), before.ports)
            assert (await second.start(spec, run_digest(spec))).pid == before.pid  # starting it again changes nothing
            os.kill(before.pid, signal.SIGKILL)
            (ended,) = await until(second, phase_is("exited"))
            assert not ended.exit_ok
            await second.stop(spec.id, run_digest(spec), 0.0)
            assert await second.observe() == ()

    run(test())


def test_what_ended_while_no_agent_watched_is_found_ended(node: Node) -> None:
    spec = spec_of("import time; time.sleep(60)")

    async def test() -> None:
        async with node.process() as first:
            pid = (await first.start(spec, run_digest(spec))).pid
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        async with node.process() as second:
            (found,) = await second.observe()
            assert (found.phase, found.message) == ("exited", "ended while no agent watched")

    run(test())


def test_a_reused_pid_is_not_taken_for_the_program(node: Node) -> None:
    spec = spec_of("import time; time.sleep(60)")

    async def test() -> None:
        async with node.process() as first:
            await first.start(spec, run_digest(spec))
            records = Records(node.folder / "run" / "processes")
            (record,) = records.load(boot_id())
        os.killpg(record.pid, signal.SIGKILL)
        os.waitpid(record.pid, 0)
        records.save(msgspec.structs.replace(record, pid=os.getpid()))
        async with node.process() as second:
            (found,) = await second.observe()
            assert found.phase == "exited"  # and this test lives on

    run(test())


def test_records_of_another_boot_and_damaged_ones_are_dropped(node: Node) -> None:
    async def test() -> None:
        async with node.process() as first:
            spec = spec_of("import time; time.sleep(60)")
            await first.start(spec, run_digest(spec))
            records = Records(node.folder / "run" / "processes")
            (record,) = records.load(boot_id())
        os.killpg(record.pid, signal.SIGKILL)
        os.waitpid(record.pid, 0)
        records.save(msgspec.structs.replace(record, boot_id="an earlier one"))
        (node.folder / "run" / "processes" / "torn.json").write_bytes(b'{"spec":')
        async with node.process() as second:
            assert await second.observe() == ()

    run(test())


def test_grandchildren_end_with_their_group(node: Node) -> None:
    script = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(p.pid, flush=True); time.sleep(60)"
    )
    spec = spec_of(script)

    async def test() -> None:
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            while not (text := logs(one, spec.id, 1)):
                await asyncio.sleep(0.02)
            await one.stop(spec.id, run_digest(spec), 5.0)
            await until(one, gone)
            deadline_s = time.monotonic() + DEADLINE_S
            while start_time(int(text)):
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.02)

    run(test())


def test_what_ignores_sigterm_is_killed_after_its_grace(node: Node) -> None:
    spec = spec_of(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('armed', flush=True); time.sleep(60)",
        stopGraceS=0.2,
    )

    async def test() -> None:
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            while not logs(one, spec.id, 1):
                await asyncio.sleep(0.02)
            await one.stop(spec.id, run_digest(spec), 5.0)
            assert [found.phase for found in await one.observe()] == ["stopping"]
            await until(one, gone)

    run(test())


def test_logs_are_capped_and_keep_their_end(node: Node) -> None:
    spec = spec_of("[print('line', n) for n in range(20_000)]; print('last', flush=True)")

    async def test() -> None:
        async with node.process(log_max=4096) as one:
            await one.start(spec, run_digest(spec))
            await until(one, phase_is("exited"))
            await one.observe()
            folder = node.folder / "state" / "process" / "logs"
            assert sum(path.stat().st_size for path in folder.iterdir()) <= 2 * 4096
            assert (logs(one, spec.id, 2)).splitlines() == ["line 19999", "last"]

    run(test())


@pytest.mark.parametrize(
    ("command", "programs", "message"),
    [
        (["rm", "-rf", "/"], (), "'rm' is not allowed here"),
        (["/bin/sh", "-c", "true"], ("sh",), "'/bin/sh' is not allowed here"),
        (["../sh"], ("sh", "../sh"), "'../sh' is not allowed here"),
        (["/opt/app/../../bin/sh"], ("/opt/app/",), "is not allowed here"),
        (["/opt/app/deeper/tool"], ("/opt/app/",), "is not allowed here"),
        (["no-such-program"], ("no-such-program",), "is allowed and not there"),
    ],
)
def test_only_what_the_operator_allowed_runs(
    node: Node, command: list[str], programs: tuple[str, ...], message: str
) -> None:
    spec = msgspec.structs.replace(spec_of(""), task=ProcessTask(command=tuple(command)))

    async def test() -> None:
        one = Process(programs=programs)
        await one.open(node.host())
        with pytest.raises(RefusedError, match=message):
            await one.start(spec, run_digest(spec))
        assert await one.observe() == ()

    run(test())


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "SHOAL_GATEWAY", "A=B", ""])
def test_variables_that_a_description_must_not_set(node: Node, name: str) -> None:
    spec = spec_of("", env={name: "x"})

    async def test() -> None:
        async with node.process() as one:
            with pytest.raises(RefusedError, match="must not set the variable"):
                await one.start(spec, run_digest(spec))

    run(test())


@pytest.mark.parametrize("by_name", [False, True])
def test_a_folder_of_programs(node: Node, tmp_path: Path, by_name: bool) -> None:
    tool = tmp_path / "tools" / "hello"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho hello\n")
    tool.chmod(0o755)
    spec = msgspec.structs.replace(spec_of(""), task=ProcessTask(command=("hello" if by_name else str(tool),)))

    async def test() -> None:
        one = Process(programs=(f"{tool.parent}/",))
        await one.open(node.host())
        await one.start(spec, run_digest(spec))
        await until(one, phase_is("exited"))
        assert logs(one, spec.id, 5) == "hello"
        await one.stop(spec.id, run_digest(spec), 0.0)
        await one.close()

    run(test())


def test_what_talks_to_models_waits_for_the_gateway(node: Node) -> None:
    spec = msgspec.structs.replace(spec_of("import time; time.sleep(60)"), interacts=("digits",))

    async def test() -> None:
        async with node.process() as one:
            with pytest.raises(TransportError, match="gateway"):
                await one.start(spec, run_digest(spec))
            node.gateway = "http://127.0.0.1:8080"
            await one.start(spec, run_digest(spec))

    run(test())


def test_two_replicas_never_get_one_port(node: Node) -> None:
    specs = [spec_of("import time; time.sleep(60)", name=f"app.part.{n}", ports=[{"name": "a"}]) for n in range(4)]

    async def test() -> None:
        async with node.process() as one:
            found = [await one.start(spec, run_digest(spec)) for spec in specs]
            assert len({port for each in found for _, port in each.ports}) == 4

    run(test())


# --- the guard of single instances ----------------------------------------------------------------------------------


def lease_ends_in(node: Node, seconds: float) -> None:
    until_s = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    node.host().lease_file.write_text(str(until_s))


def test_a_single_instance_ends_with_its_lease_though_no_agent_lives(node: Node) -> None:
    spec = msgspec.structs.replace(
        spec_of("import time; print('up', flush=True); time.sleep(60)"), single_instance=True
    )

    async def test() -> None:
        (node.folder / "run").mkdir(exist_ok=True)
        lease_ends_in(node, 60)
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            while not logs(one, spec.id, 1):
                await asyncio.sleep(0.02)
            (found,) = await one.observe()
        lease_ends_in(node, 0)  # no agent from here on
        deadline_s = time.monotonic() + DEADLINE_S
        while start_time(found.pid):
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)

    run(test())


def test_a_single_instance_ends_with_its_guard(node: Node) -> None:
    spec = msgspec.structs.replace(
        spec_of("import os, time; print(os.getpid(), flush=True); time.sleep(60)"), single_instance=True
    )

    async def test() -> None:
        (node.folder / "run").mkdir(exist_ok=True)
        lease_ends_in(node, 60)
        async with node.process() as one:
            guard = (await one.start(spec, run_digest(spec))).pid
            while not (text := logs(one, spec.id, 1)):
                await asyncio.sleep(0.02)
            program = int(text)
            assert program != guard
            os.kill(guard, signal.SIGKILL)
            deadline_s = time.monotonic() + DEADLINE_S
            while start_time(program):
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.02)

    run(test())


def test_a_guard_passes_the_exit_code_on(node: Node) -> None:
    spec = msgspec.structs.replace(spec_of("raise SystemExit(4)"), single_instance=True)

    async def test() -> None:
        (node.folder / "run").mkdir(exist_ok=True)
        lease_ends_in(node, 60)
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            (found,) = await until(one, phase_is("exited"))
            assert found.message == "ended with code 4"

    run(test())


# --- verbs ----------------------------------------------------------------------------------------------------------


def test_restart_gives_a_new_pid_on_the_same_port(node: Node) -> None:
    spec = spec_of(SERVER, ports=[{"name": "http"}], ready={"port": "http"})

    async def test() -> None:
        async with node.process() as one:
            await one.start(spec, run_digest(spec))
            (before,) = await until(one, phase_is("ready"))
            outcome = await asyncio.to_thread(one.apply, MechanismCommand("c1", "restart", "app.part"))
            assert (outcome.state, outcome.message) == ("done", "restarted 1")
            (after,) = await until(one, phase_is("ready"))
            assert after.pid != before.pid
            assert after.ports == before.ports
            assert start_time(before.pid) == 0

    run(test())


def test_cpu_can_be_set_and_undone(node: Node) -> None:
    spec = spec_of("import time; print('up', flush=True); time.sleep(60)")
    every = os.sched_getaffinity(0)
    command = MechanismCommand("c1", "setCpu", "app.part.0", values(cpu=1))

    async def test() -> None:
        async with node.process(cgroups=False) as one:
            pid = (await one.start(spec, run_digest(spec))).pid
            while not logs(one, spec.id, 1):
                await asyncio.sleep(0.02)
            undo = one.inverse(command)
            assert undo is not None
            assert one.apply(command).state == "done"
            assert len(os.sched_getaffinity(pid)) == 1
            (target,) = one.status().targets
            assert msgspec.json.decode(bytes(target.values["cpu"])) == 1.0
            assert one.apply(undo).state == "done"
            assert os.sched_getaffinity(pid) == every

    run(test())


@pytest.mark.parametrize(
    "command",
    [
        MechanismCommand("c", "restart", ""),
        MechanismCommand("c", "restart", "no.such.0"),
        MechanismCommand("c", "explode", "app.part.0"),
        MechanismCommand("c", "setCpu", "app.part.0", values(cpu=-1)),
        MechanismCommand("c", "setCpu", "app.part.0", values(cpu="all")),
    ],
    ids=["no target", "unknown target", "unknown verb", "negative", "not a number"],
)
def test_commands_that_are_refused(node: Node, command: MechanismCommand) -> None:
    async def test() -> None:
        async with node.process() as one:
            assert one.apply(command).state == "refused"

    run(test())


def test_a_command_without_its_argument_is_refused(node: Node) -> None:
    async def test() -> None:
        async with node.process() as one:
            with pytest.raises(ShoalError, match="setCpu needs the argument 'cpu'"):
                one.apply(MechanismCommand("c", "setCpu", "app.part.0"))

    run(test())


def test_what_is_offered_depends_on_what_is_allowed() -> None:
    assert [one.verb for one in Process(programs=("a",)).options().verbs] == ["restart", "setCpu"]
    assert Process().options().reason == "agent.yaml allows no program (mechanisms.process.programs)"
