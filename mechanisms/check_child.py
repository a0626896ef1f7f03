"""The process in which a mechanism plugin is checked: loads the file, makes its mechanisms, tries them, says what came.

`checks.py` starts it as `python -m … FILE FOLDER` and reads one JSON `Line` a line from its standard output; what the
plugin prints goes to standard error instead.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import msgspec

from ..descriptions.errors import PluginError
from ..descriptions.options import options_schema
from .checks import Line
from .mechanism import Mechanism
from .trial import Examiner, try_mechanism

MODULE = "shoal_mechanism_under_test"


def main(file: Path, folder: Path) -> None:
    """Check everything; never fails by itself."""
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(line: Line) -> None:
        os.write(answers, msgspec.json.encode(line) + b"\n")

    examiner = Examiner(say)
    classes: list[type[Mechanism]] = []
    if examiner.check("loads", lambda: _load(file, classes)):
        say(Line(plugin=", ".join(one.__name__ for one in classes)))
        for one in classes:
            examiner.prefix = f"{one.__name__}: " if len(classes) > 1 else ""
            _check(examiner, one, folder / one.__name__)
    say(Line(ends=True))


def _load(file: Path, classes: list[type[Mechanism]]) -> str:
    classes += mechanisms_in(load_module(file))
    return "" if classes else "defines no subclass of shoal.mechanisms.mechanism.Mechanism"


def load_module(file: Path) -> ModuleType:
    """Run the file as a module; what it raises goes on."""
    spec = importlib.util.spec_from_file_location(MODULE, file)
    if spec is None or spec.loader is None:
        raise PluginError(file.name, "is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # where dataclasses look the names of types up
    spec.loader.exec_module(module)
    return module


def mechanisms_in(module: ModuleType) -> list[type[Mechanism]]:
    """The mechanisms that the module itself defines, complete ones only."""
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Mechanism)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def _check(examiner: Examiner, cls: type[Mechanism], folder: Path) -> None:
    made: list[Mechanism] = []
    if examiner.check("its options are those of a frozen dataclass", lambda: _options_fault(cls)) and examiner.check(
        "can be made", lambda: _make(cls, folder, made)
    ):
        try_mechanism(examiner, made[0])


def _options_fault(cls: type[Mechanism]) -> str:
    parameters = vars(cls).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        return "decorate it with @dataclass(frozen=True)"
    msgspec.json.encode(options_schema(cls))
    return ""


def _make(cls: type[Mechanism], folder: Path, made: list[Mechanism]) -> str:
    """By its `sample(folder)` where it has one, else with its defaults."""
    sample: Callable[[Path], object] | None = getattr(cls, "sample", None)
    if sample is not None:
        folder.mkdir()
        one = sample(folder)
        if not isinstance(one, cls):
            return f"sample() gives {type(one).__name__}, not {cls.__name__}"
        made.append(one)
        return ""
    required = [field.name for field in fields(cls) if field.init and _is_required(field)]  # type: ignore[arg-type]
    if required:
        return f"{required[0]!r} has no default; give it one, or the class a `sample(cls, folder)`"
    made.append(cls())
    return ""


def _is_required(field: object) -> bool:
    from dataclasses import MISSING, Field

    assert isinstance(field, Field)
    return field.default is MISSING and field.default_factory is MISSING


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
