"""The command line without a control plane: help, usage errors, exit codes, and what needs no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shoal.__main__ import main
from shoal.control_plane.cli import app
from shoal.control_plane.commands.session import component_named, kind_named
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import KINDS
from shoal.descriptions.yaml import load_yaml

NOWHERE = ["--url", "http://127.0.0.1:9"]


def names() -> list[str]:
    return sorted(one.name or one.callback.__name__ for one in app.registered_commands if one.callback)


@pytest.mark.parametrize("verb", names())
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert "Usage: shoal" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["token", "rollout", "policy", "mechanism", "context"])
def test_every_group_explains_itself(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group, "--help"]) == 0
    assert "Commands" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["get", "nodez"], 2, "there is no kind 'nodez'"),
        (["get"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (["delete"], 2, "say what to delete"),
        (["why", "digits"], 2, "APPLICATION/COMPONENT"),
        ([*NOWHERE, "get", "nodes"], 1, "shoal doctor"),
        (["--context", "absent", "get", "nodes"], 2, "there is no context 'absent'"),
        (["apply", "-f", "/absent.yaml"], 2, "/absent.yaml"),
    ],
    ids=["kind", "argument", "verb", "delete", "component", "unreachable", "context", "file"],
)
def test_errors_say_what_to_do_and_have_their_code(
    argv: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(argv) == code
    said = capsys.readouterr()
    assert told in " ".join((said.err + said.out).split())


def test_contexts_are_set_used_and_kept_private(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["context", "set", "lab", "--url", "http://127.0.0.1:9/"]) == 0
    assert main(["context", "set", "roof", "--url", "http://127.0.0.1:10"]) == 0
    assert main(["context", "use", "lab"]) == 0
    capsys.readouterr()
    assert main(["context", "list", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["current"] == "lab"
    assert told["contexts"]["lab"]["url"] == "http://127.0.0.1:9"
    assert (tmp_path / "shoal" / "config.yaml").stat().st_mode & 0o777 == 0o600


def test_schema_and_crds_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "application"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Application"
    assert main(["crds"]) == 0
    documents = load_yaml(capsys.readouterr().out)
    assert {one.value["spec"]["names"]["kind"] for one in documents if isinstance(one.value, dict)} == KINDS.keys() - {  # type: ignore[index, call-overload]
        "Secret"
    }


@pytest.mark.parametrize("word", ["node", "nodes", "Node", "apps", "policies", "policy", "slice"])
def test_kinds_are_named_as_people_name_them(word: str) -> None:
    assert kind_named(word).__name__ in KINDS


def test_components_are_named_with_slash_or_dot() -> None:
    assert component_named("digits/classifier") == component_named("digits.classifier") == ("digits", "classifier")
    with pytest.raises(DescriptionError):
        component_named("digits")


def test_the_doctor_finds_what_is_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    assert main([*NOWHERE, "doctor", "-o", "json", "--bundle", str(bundle)]) == 0
    checks = {one["check"]: one["verdict"] for one in json.loads(capsys.readouterr().out)}
    assert checks["python"] == "ok"
    assert checks["control plane"] == "note"
    assert bundle.stat().st_size > 0
