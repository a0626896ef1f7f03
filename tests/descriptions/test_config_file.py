"""Configuration files: found, capped, one document, and precise about what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from shoal.descriptions.config_file import BYTES_MAX, read_config
from shoal.descriptions.errors import DescriptionError


@dataclass(frozen=True)
class Settings:
    """What the tests configure."""

    name: str = "none"
    port_max: int = 1


def read(path: Path | None, usual: Path, **env: str) -> Settings:
    return read_config(Settings, path, usual, env, prefix="SHOAL_TEST")


def test_defaults_stand_without_any_file(tmp_path: Path) -> None:
    assert read(None, tmp_path / "absent.yaml") == Settings()


def test_the_usual_file_counts_unless_another_is_named(tmp_path: Path) -> None:
    usual, named = tmp_path / "usual.yaml", tmp_path / "named.yaml"
    usual.write_text("name: usual\n")
    named.write_text("name: named\n")
    assert read(None, usual).name == "usual"
    assert read(named, usual).name == "named"


def test_the_environment_wins(tmp_path: Path) -> None:
    usual = tmp_path / "usual.yaml"
    usual.write_text("name: file\nportMax: 2\n")
    assert read(None, usual, SHOAL_TEST_NAME="variable") == Settings("variable", 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nmae: x\n", "did you mean 'name'"),
        ("name: x\n---\nname: y\n", "more than one document"),
        ("#" * (BYTES_MAX + 1), f"over {BYTES_MAX} bytes"),
    ],
    ids=["unknown key", "two documents", "too large"],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DescriptionError, match=told) as raised:
        read(path, tmp_path / "usual.yaml")
    assert str(path) in str(raised.value)


def test_a_missing_named_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="cannot be read"):
        read(tmp_path / "absent.yaml", tmp_path / "usual.yaml")
