"""Mechanisms that raise, hang and lie, behind real queues and threads; and the journal that undoes settings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shoal.agents import runners as runners_module
from shoal.agents.disk import Disk
from shoal.agents.journal import Journal
from shoal.agents.reconcile_events import (
    ApplySetting,
    Event,
    Observed,
    SettingKey,
    StartFinished,
    StartReplica,
    StopReplica,
)
from shoal.agents.runners import Runners
from shoal.descriptions.errors import PluginError, RefusedError
from shoal.descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from shoal.descriptions.messages.desired import MechanismSetting, PluginTask, ReplicaSpec
from shoal.mechanisms.arguments import argument, done, status, values, verb
from shoal.mechanisms.mechanism import Mechanism
from shoal.mechanisms.runner import Host, Observation, Runner, run_digest

SPEC = ReplicaSpec(id="a.b.0", application="a", component="b", revision=1, task=PluginTask("shed"))


@dataclass(frozen=True)
class Fan(Mechanism):
    """A file with a number; what the number says beyond 5 is trouble."""

    path: Path
    hangs: threading.Event = field(default_factory=threading.Event)

    def options(self) -> Options:
        return Options((verb("setSpeed", "Turn it.", speed={"type": "integer"}),))

    def status(self) -> Status:
        return Status((status("", speed=int(self.path.read_text())),))

    def apply(self, command: MechanismCommand) -> Outcome:
        speed = argument(command, "speed", int)
        if speed == 6:
            raise ZeroDivisionError("six")
        if speed == 7:
            self.hangs.wait(60)
        if speed == 8:
            return "fast"  # type: ignore[return-value]
        if speed == 9:
            self.path.write_text("9")
            return Outcome(command.id, "failed", "half done")
        self.path.write_text(str(speed))
        return done(command)

    def inverse(self, command: MechanismCommand) -> MechanismCommand | None:
        return MechanismCommand("undo", "setSpeed", "", values(speed=int(self.path.read_text())))


@dataclass(frozen=True)
class Shed(Runner):
    """A runner whose answers the test writes down."""

    script: dict[str, object] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def _answer(self, name: str) -> object:
        self.calls.append(name)
        answer = self.script.get(name)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def open(self, host: Host) -> None:
        self._answer("open")

    async def start(self, spec: ReplicaSpec, digest: str) -> Observation:
        self._answer("start")
        return Observation(spec.id, digest, spec.revision, "starting")

    async def stop(self, replica: str, digest: str, drain_s: float) -> None:
        self._answer("stop")

    async def observe(self) -> tuple[Observation, ...]:
        self._answer("observe")
        return ()

    def log_file(self, replica: str) -> Path | None:
        return None

    async def close(self) -> None:
        self._answer("close")

    def options(self) -> Options:
        return Options(reason="nothing to set")

    def status(self) -> Status:
        return Status()

    def apply(self, command: MechanismCommand) -> Outcome:
        return done(command)


class World:
    """Runners over these mechanisms, and what they told the core."""

    def __init__(self, folder: Path, **mechanisms: Mechanism) -> None:
        self.events: list[Event] = []
        self.count = 0
        self.runners = Runners(mechanisms, self.events.append, self.new_id)
        self.disk = Disk(folder / "state", 0)
        self.journal = Journal(self.disk, self.runners)
        self.host = Host("n", "s", folder, folder, self.runners.changed)

    def new_id(self) -> str:
        self.count += 1
        return str(self.count)

    async def until(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline_s, self.events
            await asyncio.sleep(0.01)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def run(world: World, test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await world.runners.open(world.host)
        try:
            async with asyncio.timeout(40):
                await test()
        finally:
            await world.runners.close()
            world.disk.close()

    asyncio.run(bounded())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "fan").write_text("1")
    return tmp_path


def speed(folder: Path) -> int:
    return int((folder / "fan").read_text())


def setting(value: int) -> ApplySetting:
    key = SettingKey("fan", "", "setSpeed")
    wanted = MechanismSetting("fan", "", "setSpeed", values(speed=value))
    return ApplySetting("e1", key, wanted, f"e1/fan//setSpeed/{value}")


# --- runners --------------------------------------------------------------------------------------------------------


def test_a_runner_is_observed_before_anything_is_asked_of_it(folder: Path) -> None:
    world = World(folder, shed=(shed := Shed()))

    async def test() -> None:
        await world.until(lambda: bool(world.told(Observed)))
        world.runners.submit(StartReplica("c", "shed", SPEC, run_digest(SPEC)))
        await world.until(lambda: bool(world.told(StartFinished)))
        world.runners.submit(StopReplica("c", "shed", SPEC.id, run_digest(SPEC), 5.0))
        await world.until(lambda: "stop" in shed.calls)
        assert shed.calls[:3] == ["open", "observe", "start"]
        assert world.runners.runner_names == {"shed"}

    run(world, test)
    assert shed.calls[-1] == "close"


@pytest.mark.parametrize(
    ("error", "message", "refused", "failures"),
    [
        (RefusedError("never here"), "never here", True, 0),
        (PluginError("shed", "not now"), "shed: not now", False, 0),
        (ZeroDivisionError("oops"), "shed: ZeroDivisionError: oops", False, 1),
    ],
)
def test_what_a_start_raises_is_told(
    folder: Path, error: Exception, message: str, refused: bool, failures: int
) -> None:
    world = World(folder, shed=Shed({"start": error}))

    async def test() -> None:
        world.runners.submit(StartReplica("c", "shed", SPEC, run_digest(SPEC)))
        await world.until(lambda: bool(world.told(StartFinished)))
        (found,) = world.told(StartFinished)
        assert isinstance(found, StartFinished)
        assert (found.observation, found.error, found.refused) == (None, message, refused)
        assert world.runners.failures == failures

    run(world, test)


def test_a_runner_that_cannot_be_observed_gives_no_verdict(folder: Path) -> None:
    world = World(folder, shed=(shed := Shed({"observe": ZeroDivisionError("oops")})))

    async def test() -> None:
        await world.until(lambda: shed.calls.count("observe") >= 1 and world.runners.failures >= 1)
        assert world.told(Observed) == []
        shed.script.clear()
        world.runners.changed("shed")
        await world.until(lambda: bool(world.told(Observed)))

    run(world, test)


def test_a_runner_that_cannot_be_opened_fails_alone_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners_module, "REOPEN_S", 0.05)
    shed = Shed({"open": OSError("no such device")})
    world = World(folder, shed=shed, fan=Fan(folder / "fan"))

    async def test() -> None:
        world.runners.submit(StartReplica("c", "shed", SPEC, run_digest(SPEC)))
        await world.until(lambda: bool(world.told(StartFinished)))
        (found,) = world.told(StartFinished)
        assert isinstance(found, StartFinished)
        assert found.error == "shed: cannot be opened: OSError: no such device"
        assert (
            await world.runners.apply("fan", MechanismCommand("c", "setSpeed", "", values(speed=2)))
        ).state == "done"
        shed.script.clear()
        await world.until(lambda: "observe" in shed.calls)
        world.runners.submit(StartReplica("c", "shed", SPEC, run_digest(SPEC)))
        await world.until(lambda: "start" in shed.calls)

    run(world, test)


WRONG = 'fan setSpeed: speed is "fast", expected integer'


# --- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "state", "message"),
    [
        (MechanismCommand("c", "setSpeed", "", values(speed=3)), "done", ""),
        (MechanismCommand("c", "setSpeed"), "refused", "setSpeed needs the argument 'speed'"),
        (MechanismCommand("c", "setSpeed", "", values(speed="fast")), "refused", WRONG),
        (MechanismCommand("c", "setColour"), "refused", "fan offers setSpeed here, not 'setColour'"),
        (MechanismCommand("c", "setSpeed", "", values(speed=6)), "failed", "fan: ZeroDivisionError: six"),
        (MechanismCommand("c", "setSpeed", "", values(speed=8)), "failed", "fan answered str, not an Outcome"),
        (MechanismCommand("c", "setSpeed", "", values(speed=9)), "failed", "half done"),
    ],
)  # fmt: skip
def test_every_answer_becomes_an_outcome(folder: Path, command: MechanismCommand, state: str, message: str) -> None:
    world = World(folder, fan=Fan(folder / "fan"))

    async def test() -> None:
        outcome = await world.runners.apply("fan", command)
        assert (outcome.id, outcome.state, outcome.message) == ("c", state, message)

    run(world, test)


def test_a_mechanism_that_is_not_enabled_is_refused(folder: Path) -> None:
    world = World(folder)

    async def test() -> None:
        outcome = await world.runners.apply("fan", MechanismCommand("c", "setSpeed"))
        assert (outcome.state, outcome.message) == ("refused", "the mechanism 'fan' is not enabled on this node")

    run(world, test)


def test_a_call_that_hangs_delays_nobody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners_module, "CALL_S", 0.2)
    fan, other = Fan(folder / "fan"), Fan(folder / "fan")
    world = World(folder, fan=fan, other=other)

    def turn(mechanism: str, speed: int) -> Awaitable[Outcome]:
        return world.runners.apply(mechanism, MechanismCommand("c", "setSpeed", "", values(speed=speed)))

    async def test() -> None:
        hanging = asyncio.ensure_future(turn("fan", 7))
        assert (await turn("other", 2)).state == "done"
        assert "took longer" in (await hanging).message
        again = await turn("fan", 2)
        assert (again.state, again.message) == ("failed", "fan: an earlier call has not returned")
        fan.hangs.set()
        deadline_s = time.monotonic() + 20
        while (await turn("fan", 2)).state != "done":
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)

    run(world, test)


# --- journal --------------------------------------------------------------------------------------------------------


def test_the_way_back_is_on_disk_before_the_knob_is_turned(folder: Path) -> None:
    world = World(folder, fan=Fan(folder / "fan"))

    async def test() -> None:
        assert (await world.journal.apply(setting(4))).outcome == "done"
        assert (await world.journal.apply(setting(5))).outcome == "done"
        (entry,) = world.disk.database.journal()
        assert (entry.state, entry.inverse and entry.inverse.arguments) == ("done", values(speed=1))
        assert speed(folder) == 5
        finished = await world.journal.undo("e2", entry.key)
        assert (finished.outcome, finished.undone, speed(folder)) == ("done", True, 1)
        assert world.disk.database.journal() == ()

    run(world, test)


def test_a_change_that_a_crash_cut_off_is_restored_at_the_start(folder: Path) -> None:
    world = World(folder, fan=Fan(folder / "fan"))
    key = setting(4).key

    async def test() -> None:
        world.disk.database.journal_acting(key, MechanismCommand("u", "setSpeed", "", values(speed=1)))
        (folder / "fan").write_text("4")  # and then the power went
        remembered = await world.journal.recover("e")
        assert (speed(folder), remembered.keys) == (1, ())
        await world.journal.apply(setting(3))
        assert (await world.journal.recover("e")).keys == (key,)  # done: it stays, the document decides
        assert speed(folder) == 3

    run(world, test)


def test_a_first_change_that_failed_halfway_is_taken_back(folder: Path) -> None:
    world = World(folder, fan=Fan(folder / "fan"))

    async def test() -> None:
        finished = await world.journal.apply(setting(9))
        assert (finished.outcome, finished.message) == ("failed", "half done")
        assert speed(folder) == 1
        assert world.disk.database.journal() == ()

    run(world, test)


def test_a_later_change_that_failed_keeps_the_way_back(folder: Path) -> None:
    world = World(folder, fan=Fan(folder / "fan"))

    async def test() -> None:
        await world.journal.apply(setting(4))
        await world.journal.apply(setting(9))
        (entry,) = world.disk.database.journal()
        assert entry.inverse is not None
        assert (await world.journal.undo("e", entry.key)).outcome == "done"
        assert speed(folder) == 1

    run(world, test)


def test_undoing_what_was_never_set_is_done(folder: Path) -> None:
    world = World(folder, fan=Fan(folder / "fan"))

    async def test() -> None:
        assert (await world.journal.undo("e", setting(1).key)).outcome == "done"

    run(world, test)


def test_a_setting_of_a_mechanism_that_is_gone_is_forgotten(folder: Path) -> None:
    world = World(folder)

    async def test() -> None:
        world.disk.database.journal_acting(setting(4).key, MechanismCommand("u", "setSpeed", "", values(speed=1)))
        remembered = await world.journal.recover("e")
        assert remembered.keys == ()
        assert world.disk.database.journal() == ()

    run(world, test)
