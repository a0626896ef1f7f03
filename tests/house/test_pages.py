"""What pages tell people to type works: every command is one, every description in them is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from shoal.__main__ import ROOMS
from shoal.agents.cli import main as agent
from shoal.agents.config import AgentOptions
from shoal.control_plane.cli import app
from shoal.control_plane.config import ControlPlaneOptions
from shoal.descriptions.load import load_text
from shoal.descriptions.options import read_options
from shoal.descriptions.yaml import load_yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
COMMAND = re.compile(r"(?:^|[`(]|&& )(?:sudo )?(?:\"\$\(command -v shoal\)\"|shoal) ([a-z][^`\n|&#]*)", re.MULTILINE)
SHOWS_MISTAKES = {"descriptions.md"}
"""Pages whose YAML is wrong on purpose, to show the answer."""
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> set[tuple[str, ...]]:
    """The verbs of every `shoal …` in code: the words before the first argument or option."""
    found = set()
    code = re.findall(r"^```\n(.*?)^```|(`[^`\n]+`)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block, inline in code:
        for line in COMMAND.findall(block.replace("\\\n", " ") or inline):
            words = line.split()
            found.add(tuple(word for word in words[:2] if re.fullmatch("[a-z][a-z-]*", word)))
    return found - {()}


def is_command(words: tuple[str, ...]) -> bool:
    """Whether the first word is a command and, where that is a group, the second is one of its commands."""
    if words[0] in ROOMS:
        return True
    groups: dict[str, object] = vars(typer.main.get_command(app))["commands"]
    inner: dict[str, object] | None = getattr(groups.get(words[0]), "commands", None)
    return words[0] in groups and (inner is None or len(words) < 2 or words[1] in inner)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    assert [" ".join(words) for words in sorted(commands(page)) if not is_command(words)] == []


@pytest.mark.parametrize("page", ["raspberry-pi.md", "jetson.md"])
def test_commands_of_the_agent_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    used = {words[1] for words in commands(ROOT / "docs" / page) if words[0] == "agent" and len(words) > 1}
    assert {"install", "status"} <= used
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for word in sorted(used):
        with pytest.raises(SystemExit, match="0"):
            agent([word, "--help"])
        known = capsys.readouterr().out
        given = {
            flag for line in re.findall(rf"agent {word} ([^`\n]*)", text) for flag in re.findall(r"--[a-z-]+", line)
        }
        assert {flag for flag in given if flag not in known} == set()


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in SHOWS_MISTAKES], ids=lambda page: str(page.relative_to(ROOT))
)
def test_descriptions_and_configurations_are_valid(page: Path) -> None:
    for text in YAML.findall(page.read_text(encoding="utf-8")):
        if "apiVersion" in text:
            assert load_text(text)
            continue
        document = load_yaml(text)[0]
        assert isinstance(document.value, dict)
        is_agent = not {"api", "broker", "policies"} & set(document.value)
        assert read_options(AgentOptions if is_agent else ControlPlaneOptions, document)
