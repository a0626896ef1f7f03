"""Holds the house's walls (design §1): who imports whom, who alone may import a library, how long things get."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "descriptions": set[str](),
    "telemetry": {"descriptions"},
    "mechanisms": {"descriptions", "telemetry"},
    "policies": {"descriptions"},
    "control_plane": {"descriptions", "telemetry", "mechanisms", "policies"},
    "agents": {"descriptions", "telemetry", "mechanisms", "policies"},
    "sim": {"descriptions", "telemetry", "mechanisms", "policies", "control_plane", "agents"},
}

ONLY_IN = {
    "paho": ("telemetry/link.py",),
    "yaml": ("descriptions/yaml.py",),
    "sqlalchemy": ("control_plane/store/",),
    "alembic": ("control_plane/store/",),
    "sqlite3": ("agents/database.py", "control_plane/store/dialect.py"),
    "amqtt": ("telemetry/broker",),
    "onnxruntime": ("agents/inference/plugins/", "policies/onnx.py"),
    "ai_edge_litert": ("agents/inference/plugins/",),
    "tflite_runtime": ("agents/inference/plugins/",),
    "kubernetes": ("mechanisms/", "control_plane/kubernetes/"),
    "pickle": (),
    "marshal": (),
    "shelve": (),
}

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 600


@dataclass(frozen=True)
class Import:
    """One import statement: its file, line, and what it names."""

    path: str
    line: int
    room: str
    """Top-level folder when it names a module of ours, else empty."""
    library: str
    """Top-level package when it names another's, else empty."""


def sources() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def imports_of(path: Path) -> Iterator[Import]:
    relative = path.relative_to(ROOT)
    depth = len(relative.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(str(relative), node.lineno, "", alias.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(str(relative), node.lineno, "", (node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            named = (node.module or "").split(".")[0]
            rooms = [named] if named else [alias.name for alias in node.names]
            for room in rooms:
                yield Import(str(relative), node.lineno, room, "")


ALL_IMPORTS = [found for path in sources() for found in imports_of(path)]


def test_there_is_something_to_check() -> None:
    assert len(ALL_IMPORTS) > 100


def test_rooms_import_only_what_the_design_allows() -> None:
    wrong = [
        f"{one.path}:{one.line} imports {one.room}"
        for one in ALL_IMPORTS
        if one.room in MAY_IMPORT
        and one.room != (own := one.path.split("/", maxsplit=1)[0])
        and one.room not in MAY_IMPORT[own]
    ]
    assert wrong == []


def test_inside_the_packages_imports_are_relative() -> None:
    assert [f"{one.path}:{one.line}" for one in ALL_IMPORTS if one.library == "shoal"] == []


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_only_one_place_imports(library: str) -> None:
    wrong = [
        f"{one.path}:{one.line}"
        for one in ALL_IMPORTS
        if one.library == library and not one.path.startswith(ONLY_IN[library] or "nowhere")
    ]
    assert wrong == []


def functions() -> Iterator[tuple[str, int]]:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_no_function_is_longer_than_a_screen() -> None:
    assert [(name, lines) for name, lines in functions() if lines > FUNCTION_LINES_MAX] == []


def test_no_file_holds_too_many_nouns() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {path: n for path, n in lines.items() if n > FILE_LINES_MAX} == {}


def test_each_module_says_what_it_is_for() -> None:
    silent = [path for path in sources() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def is_shell(node: ast.AST) -> bool:
    """`shell=True`, `os.system`, `os.popen`."""
    if isinstance(node, ast.keyword):
        return node.arg == "shell" and getattr(node.value, "value", None) is True
    named = isinstance(node, ast.Attribute) and node.attr in {"system", "popen"}
    return named and getattr(getattr(node, "value", None), "id", "") == "os"


def swallows(node: ast.AST) -> bool:
    """An `except` for everything whose body is `pass`."""
    if not isinstance(node, ast.ExceptHandler) or not all(isinstance(one, ast.Pass) for one in node.body):
        return False
    return node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}


@pytest.mark.parametrize("is_wrong", [is_shell, swallows], ids=["shell", "swallowed error"])
def test_nowhere(is_wrong: Callable[[ast.AST], bool]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if is_wrong(node)
    ]
    assert wrong == []
