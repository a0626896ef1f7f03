"""Writes the pages that are made from the code: `docs/configuration.md`. A test in `tests/house` holds them current."""

from __future__ import annotations

from pathlib import Path

from shoal.agents.config import AgentOptions
from shoal.control_plane.config import ControlPlaneOptions
from shoal.descriptions.options import describe

ROOT = Path(__file__).resolve().parent.parent

HEAD = """# Configuration

Made by `make docs` from the dataclasses that read it: `control_plane/config.py` and `agents/config.py`.

Two files, one loader: YAML with camelCase keys, refused with file, line and the nearest key when something is wrong.
Every key has a default and an environment variable, which wins over the file. In a variable, lists are written
with commas.
The command line itself takes `SHOAL_URL`, `SHOAL_TOKEN`, `SHOAL_TOKEN_FILE` and `SHOAL_CONTEXT`; its contexts are in
`$XDG_CONFIG_HOME/shoal/config.yaml`. `shoal control-plane --config` and `shoal agent --config` name another file.
"""


def table(title: str, file: str, options: type, prefix: str) -> str:
    """One file's keys."""
    rows = "".join(
        f"| `{row.key}` | {_cell(row.type)} | {_default(row.default)} | {_cell(row.doc)} | `{row.env}` |\n"
        for row in describe(options, prefix)
    )
    head = "| key | takes | default | meaning | variable |\n|---|---|---|---|---|\n"
    return f"\n## {title}: `{file}`\n\n{head}{rows}"


def _default(text: str) -> str:
    return "" if text in {"", "null", '""'} or set(text) == {"*"} else f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def configuration() -> str:
    """The whole page."""
    return (
        HEAD
        + table("Control plane", "control-plane.yaml", ControlPlaneOptions, "SHOAL_CONTROL_PLANE")
        + table("Agent", "agent.yaml", AgentOptions, "SHOAL_AGENT")
    )


if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(configuration(), encoding="utf-8")
