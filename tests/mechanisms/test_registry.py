"""Finding mechanisms by name: built-in ones, entry points, and what is refused."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from shoal.descriptions.errors import DescriptionError, PluginError
from shoal.mechanisms import registry
from shoal.mechanisms.inference import Inference
from shoal.mechanisms.mechanism import Mechanism
from shoal.mechanisms.process import Process
from shoal.mechanisms.registry import ENTRY_POINT_GROUP, installed, make_mechanisms, mechanism_class

PLUGIN = """
from dataclasses import dataclass
from shoal.descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from shoal.mechanisms.mechanism import Mechanism

@dataclass(frozen=True)
class Fan(Mechanism):
    speed_max: int = 5

    def options(self) -> Options: return Options()
    def status(self) -> Status: return Status()
    def apply(self, command: MechanismCommand) -> Outcome: return Outcome(command.id, "done")

class NotOne: ...
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers mechanisms, as another distribution would."""
    (tmp_path / "fan_plugin.py").write_text(PLUGIN)
    (tmp_path / "broken_plugin.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = {
        "fan": "fan_plugin:Fan",
        "not-one": "fan_plugin:NotOne",
        "missing": "fan_plugin:Missing",
        "broken": "broken_plugin:X",
        "process": "fan_plugin:Fan",
    }
    points = EntryPoints(EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in offered.items())

    def entry_points(group: str) -> EntryPoints:
        assert group == ENTRY_POINT_GROUP
        return points

    monkeypatch.setattr(registry, "entry_points", entry_points)
    for name in ("fan_plugin", "broken_plugin"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_built_in_mechanisms_with_their_options() -> None:
    made = make_mechanisms({"process": {"programs": ["sh"], "logMax": "64Ki"}, "inference": None})
    assert made == {"inference": Inference(), "process": Process(programs=("sh",), log_max=65536)}


@pytest.mark.usefixtures("plugins")
def test_a_plugin_is_found_by_its_entry_point() -> None:
    (made,) = make_mechanisms({"fan": {"speedMax": 3}}).values()
    assert type(made).__name__ == "Fan"
    assert vars(made) == {"speed_max": 3}


@pytest.mark.usefixtures("plugins")
def test_a_plugin_cannot_take_the_name_of_a_built_in_one() -> None:
    assert mechanism_class("process") is Process
    assert installed()["process"].endswith("process:Process")


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("container", DescriptionError, "there is no container mechanism yet"),
        ("fann", DescriptionError, "did you mean 'fan'"),
        ("not-one", PluginError, "is not a subclass of Mechanism"),
        ("missing", PluginError, "is not a subclass of Mechanism"),
        ("broken", PluginError, "No module named 'no_such_library'"),
        ("os:system", DescriptionError, "no mechanism is called"),
    ],
)
def test_what_cannot_be_enabled(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_mechanisms({name: {}})


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"programs": "sh"}, "mechanisms.process.programs", "a list"),
        ({"logMax": "5 parsecs"}, "mechanisms.process.logMax", "parsecs"),
        ({"Programs": []}, "mechanisms.process.Programs", "did you mean 'programs'"),
        (["sh"], "mechanisms.process", "expected the mechanism's options"),
    ],
)
def test_wrong_options_are_named_with_their_place(options: object, path: str, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        make_mechanisms({"process": options})
    assert caught.value.path == path
    assert message in str(caught.value)


def test_a_misspelt_method_is_refused_at_definition() -> None:
    with pytest.raises(TypeError, match="did you mean 'inverse'"):

        class Wrong(Mechanism):
            def invers(self) -> None: ...


def test_a_missing_method_is_refused_when_made() -> None:
    class Half(Mechanism):
        def speed(self) -> int:
            return 1

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
