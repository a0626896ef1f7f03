"""`shoal mechanism test`: a good plugin passes, and each way of being wrong is named, hangs and ended processes too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from shoal.__main__ import main
from shoal.descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from shoal.mechanisms.arguments import Json, argument, done, status, values, verb
from shoal.mechanisms.checks import Report, assert_mechanism, run_file
from shoal.mechanisms.mechanism import Mechanism
from shoal.mechanisms.samples import fault_of, fitting, wrong

GOOD = '''
"""A fan, in a file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from shoal.descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from shoal.mechanisms.arguments import argument, done, failed, refused, status, values, verb
from shoal.mechanisms.mechanism import Mechanism


@dataclass(frozen=True)
class Fan(Mechanism):
    """Turns."""

    path: Path = Path("/nowhere/fan")

    @classmethod
    def sample(cls, folder: Path) -> Fan:
        return cls(folder / "fan")

    def options(self) -> Options:
        speed = {"type": "integer", "minimum": 0, "maximum": 5}
        return Options((verb("setSpeed", "Turn.", speed=speed), verb("beep", "Make a noise.")))

    def status(self) -> Status:
        return Status((status(speed=self._speed()),))

    def apply(self, command: MechanismCommand) -> Outcome:
        if command.verb == "beep":
            return done(command)
        if command.verb != "setSpeed":
            return refused(command, "no such verb")
        speed = argument(command, "speed", int)
        if not 0 <= speed <= 5:
            return refused(command, "speed is 0 to 5")
        self.path.write_text(str(speed))
        return done(command)

    def inverse(self, command: MechanismCommand) -> MechanismCommand | None:
        if command.verb != "setSpeed":
            return None
        return MechanismCommand(command.id + "/undo", "setSpeed", "", values(speed=self._speed()))

    def _speed(self) -> int:
        return int(self.path.read_text()) if self.path.exists() else 0
'''


def check(tmp_path: Path, text: str, step_s: float = 10.0) -> Report:
    file = tmp_path / "plugin.py"
    file.write_text(text)
    return run_file(file, step_s=step_s)


def faults(report: Report) -> list[str]:
    return [f"{one.check}: {one.message}" for one in report.findings if not one.passed]


def test_a_good_plugin_passes_every_check(tmp_path: Path) -> None:
    report = check(tmp_path, GOOD)
    assert faults(report) == []
    assert report.passed
    assert report.mechanism == "Fan"
    assert [one.check for one in report.findings] == [
        "loads",
        "its options are those of a frozen dataclass",
        "can be made",
        "options() is honest",
        "status() is readable and looking changes nothing",
        "setSpeed: applies",
        "setSpeed: the same again does no harm",
        "setSpeed: status() shows what is set",
        "setSpeed: undo restores",
        "setSpeed: refuses bad arguments",
        "beep: applies",
        "beep: the same again does no harm",
        "beep: refuses bad arguments",
        "refuses an unknown verb",
    ]
    assert report.lines()[-1] == "Fan: keeps the contract"
    assert json.loads(msgspec.json.encode(report))["passed"] is True


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("import time", "import no_such_module", "loads: raises ModuleNotFoundError", id="import"),
        pytest.param("class Fan(Mechanism)", "class Fan(object)", "loads: defines no subclass", id="no mechanism"),
        pytest.param("def inverse(", "def invers(", "loads: raises TypeError: Fan.invers is not in the contract",
                     id="misspelt"),
        pytest.param("@dataclass(frozen=True)\nclass Fan", "class Fan", "frozen dataclass: decorate it",
                     id="no dataclass"),
        pytest.param("return cls(folder", "return str(folder", "can be made: sample() gives str", id="sample"),
        pytest.param("return Options((", "return Options()\n        return Options((",
                     "offers no verb and gives no reason", id="no reason"),
        pytest.param('verb("beep", "Make a noise.")', 'verb("beep", "")', "says nothing about itself", id="no doc"),
        pytest.param('verb("beep"', 'verb("Beep now"', "no name that permittedActions can hold", id="name"),
        pytest.param('verb("beep"', 'verb("setSpeed"', "offers a verb twice", id="twice"),
        pytest.param('"type": "integer"', '"type": "int"', "argument 'speed' has the unknown type 'int'", id="type"),
        pytest.param('"minimum": 0', '"minimum": 9', "minimum of 9 over its maximum of 5", id="bounds"),
        pytest.param("status(speed=self._speed())", "status(rpm=self._speed())",
                     "status() shows what is set: there is no 'speed'", id="another name in status"),
        pytest.param("speed=self._speed()),))", "speed=time.monotonic_ns()),))", "asked twice, it shows something else",
                     id="restless"),
        pytest.param("write_text(str(speed))", "write_text(str(min(speed, 3)))", "speed was set to 5 and is shown as 3",
                     id="does not do it"),
        pytest.param("write_text(str(speed))", "write_text(str(self._speed() + speed))",
                     "the same again does no harm: status() shows something else", id="adds up"),
        pytest.param('if command.verb != "setSpeed":\n            return None', "if True:\n            return None",
                     "undo restores: inverse() gives nothing, though", id="no inverse"),
        pytest.param('"setSpeed", "", values(speed=self._speed())', '"setSpeed", "", values(speed=1)',
                     "undo restores: after speed", id="wrong inverse"),
        pytest.param("        if not 0 <= speed <= 5:", "        if False:",
                     "refuses bad arguments: speed with minimum 0: it is done, not refused", id="no bounds"),
        pytest.param('argument(command, "speed", int)', 'int(bytes(command.arguments["speed"]))',
                     "refuses bad arguments: without speed: raises KeyError", id="raises for a missing argument"),
        pytest.param('return refused(command, "speed is 0 to 5")', 'return refused(command, "")',
                     "refused without a reason", id="mute"),
        pytest.param('return refused(command, "no such verb")', "return done(command)",
                     "refuses an unknown verb: it is done, not refused", id="any verb"),
        pytest.param("        return done(command)\n\n", "        return None\n\n",
                     "apply() gives NoneType, not Outcome", id="no outcome"),
        pytest.param("        return done(command)\n\n", '        return Outcome("other", "done")\n\n',
                     "answers for command 'other'", id="another id"),
        pytest.param("return done(command)\n        if", 'return failed(command, "no bell")\n        if',
                     "beep: applies: it is failed: no bell", id="fails"),
        pytest.param("return done(command)\n        if", "raise SystemExit(3)\n        if",
                     "beep: applies: raises SystemExit", id="exits"),
        pytest.param("return done(command)\n        if", "os._exit(3)\n        if",
                     "beep: applies: it ended its process with code 3", id="ends its process"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    report = check(tmp_path, text)
    assert not report.passed
    assert expected in "\n".join(faults(report)), report.lines()


def test_one_that_hangs_is_named_and_ended(tmp_path: Path) -> None:
    text = GOOD.replace("return done(command)\n        if", "time.sleep(3600)\n        if", 1)
    report = check(tmp_path, text, step_s=1.0)
    assert faults(report) == ["beep: applies: hangs: no answer within 1 s"]


def test_what_a_plugin_prints_does_not_disturb(tmp_path: Path) -> None:
    noise = "print('x' * 100_000)\nos.write(1, b'{}\\n')\n\n\n@dataclass(frozen=True)\nclass Fan"
    assert check(tmp_path, GOOD.replace("@dataclass(frozen=True)\nclass Fan", noise, 1)).passed


def test_a_plugin_without_its_hardware_says_so_and_passes(tmp_path: Path) -> None:
    text = GOOD.replace("return Options((", 'return Options(reason="no fan here")\n        return Options((', 1)
    report = check(tmp_path, text)
    assert report.passed
    assert any(one.message == "none is offered here, so none was tried: no fan here" for one in report.findings)


def test_all_mechanisms_of_a_file_are_checked(tmp_path: Path) -> None:
    second = GOOD.partition("@dataclass(frozen=True)\nclass Fan")[2].replace("Fan", "Pump")
    report = check(tmp_path, f"{GOOD}\n\n@dataclass(frozen=True)\nclass Pump{second}")
    assert report.passed
    assert report.mechanism == "Fan, Pump"
    assert {"Fan: setSpeed: applies", "Pump: setSpeed: applies"} <= {one.check for one in report.findings}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert faults(run_file(tmp_path / "missing.py"))[0].startswith("loads: raises FileNotFoundError")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fan.py"
    file.write_text(GOOD)
    assert main(["mechanism", "test", str(file)]) == 0
    assert "ok   setSpeed: undo restores" in capsys.readouterr().out
    file.write_text(GOOD.replace("return cls(folder", "return str(folder", 1))
    assert main(["mechanism", "test", str(file), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


# --- targets other than the node ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lamps(Mechanism):
    """Two lamps, each a target; null turns one back to its default."""

    lit: tuple[dict[str, bool], ...] = ({"left": False, "right": False},)

    def options(self) -> Options:
        schema: dict[str, Json] = {"type": ["boolean", "null"]}
        return Options((verb("setLamp", "Light or darken a lamp.", lit=schema),))

    def status(self) -> Status:
        return Status(tuple(status(name, lit=lit) for name, lit in sorted(self.lit[0].items())))

    def apply(self, command: MechanismCommand) -> Outcome:
        if command.target not in self.lit[0] or command.verb != "setLamp":
            return Outcome(command.id, "refused", "no such lamp or verb")
        self.lit[0][command.target] = bool(argument(command, "lit", bool | None))  # type: ignore[arg-type]
        return done(command)

    def inverse(self, command: MechanismCommand) -> MechanismCommand | None:
        if command.target not in self.lit[0]:
            return None
        return msgspec.structs.replace(command, arguments=values(lit=self.lit[0][command.target]))


def test_a_mechanism_of_targets_is_tried_on_one_of_them() -> None:
    lamps = Lamps()
    assert_mechanism(lamps)
    assert lamps.lit[0] == {"left": False, "right": False}, "all is as it was"


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"type": "integer", "minimum": 1, "maximum": 9}, [9, 1, 5], id="bounds"),
        pytest.param({"type": "integer", "minimum": 800, "maximum": 1800, "multipleOf": 400}, [1800, 800, 1200],
                     id="steps"),
        pytest.param({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 4}, [4, 0.5, 2.25], id="open"),
        pytest.param({"type": "boolean"}, [True, False], id="boolean"),
        pytest.param({"enum": ["low", "high"]}, ["high", "low"], id="enum"),
        pytest.param({"type": "string", "pattern": "^x"}, [], id="pattern"),
        pytest.param({"type": "string", "pattern": "^x", "examples": ["x1"]}, ["x1"], id="examples"),
    ],
)  # fmt: skip
def test_samples(schema: dict[str, Json], expected: list[Json]) -> None:
    assert fitting(schema) == expected
    assert bool(fault_of(schema)) == (not expected)


def test_wrong_values_leave_the_schema() -> None:
    found = [one.value for one in wrong({"type": "integer", "minimum": 1, "exclusiveMaximum": 9})]
    assert found == ["no such value", True, [[]], {"no": "such"}, 0, 9]
