"""The lists in `pyproject.toml` and `.dev/` agree with the folders."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("descriptions", "telemetry", "mechanisms", "policies", "control_plane", "agents", "sim")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    found = {"shoal"} | {
        "shoal." + str(path.parent.relative_to(ROOT)).replace("/", ".")
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == found


def test_every_folder_with_modules_is_a_package() -> None:
    bare = {
        str(path.parent.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if not (path.parent / "__init__.py").exists() and "versions" not in path.parts and "fixtures" not in path.parts
    }
    assert bare == set()


def test_assets_of_the_product_are_package_data() -> None:
    listed = project()["tool"]["setuptools"]["package-data"]
    patterns = [("" if package == "shoal" else package.removeprefix("shoal.").replace(".", "/") + "/") + pattern
                for package, patterns in listed.items() for pattern in patterns]  # fmt: skip
    assets = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".md"} and "__pycache__" not in path.parts
    ]
    missing = [asset for asset in assets if not any(fnmatch(asset, pattern) for pattern in patterns)]
    assert missing == []


def test_links_for_the_type_checkers_stand() -> None:
    for name in (*ROOMS, "examples", "__init__.py", "__main__.py", "py.typed"):
        assert (ROOT / ".dev" / "shoal" / name).resolve() == ROOT / name


def test_locks_have_hashes_and_name_no_host() -> None:
    for lock in ("run", "dev"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        assert text.count("--hash=sha256:") > 100
        assert "://" not in text
