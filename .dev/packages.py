"""Writes the list of packages in `pyproject.toml` anew from the folders; a test in `tests/house` compares the two."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "control_plane", "descriptions", "mechanisms", "policies", "sim", "telemetry")


def main() -> None:
    """Replace the list."""
    found = sorted(
        "shoal." + str(path.parent.relative_to(ROOT)).replace("/", ".")
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    )
    lines = "".join(f'    "{name}",\n' for name in ("shoal", *found))
    pyproject = ROOT / "pyproject.toml"
    text = pyproject.read_text(encoding="utf-8")
    pyproject.write_text(re.sub(r"(?m)^packages = \[[^\]]*\]", f"packages = [\n{lines}]", text), encoding="utf-8")


if __name__ == "__main__":
    main()
