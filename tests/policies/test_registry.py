"""Where policies come from: built in, named by the operator, installed and enabled, or a file in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.descriptions.errors import PluginError
from shoal.descriptions.options import read_options
from shoal.policies import IN_TREE
from shoal.policies.registry import FILE_BYTES_MAX, FILES_MAX, PolicySettings, load, read_source, sources


def test_only_built_ins_without_settings() -> None:
    found = sources(PolicySettings())
    assert {name: one.target for name, one in found.items()} == IN_TREE
    assert all(load(target) for target in IN_TREE.values())


def test_an_installed_entry_point_counts_only_where_it_is_enabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "acme-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[shoal.policies]\nquiet = acme:Quiet\nloud = acme:Loud\nspread = acme:S\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def added(*enabled: str) -> dict[str, str]:
        found = sources(PolicySettings(entry_points=enabled))
        return {name: one.target for name, one in found.items() if one.kind != "built-in"}

    assert added() == {}
    assert added("quiet") == {"quiet": "acme:Quiet"}
    assert added("*") == {"quiet": "acme:Quiet", "loud": "acme:Loud"}, "a built-in's name can't be taken"


def test_files_are_named_by_their_stem(tmp_path: Path) -> None:
    (tmp_path / "my_policy.py").write_text("")
    found = sources(PolicySettings(folder=tmp_path))["my-policy"]
    assert (found.kind, found.target) == ("file", str(tmp_path / "my_policy.py"))
    assert sources(PolicySettings(folder=tmp_path / "gone")).keys() == IN_TREE.keys()


def test_a_folder_has_only_so_many_policies(tmp_path: Path) -> None:
    for at in range(FILES_MAX + 10):
        (tmp_path / f"p{at:04d}.py").write_text("")
    assert len(sources(PolicySettings(folder=tmp_path))) == len(IN_TREE) + FILES_MAX


def test_a_file_may_not_be_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.py"
    path.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(PluginError, match="over the limit"):
        read_source(path)
    with pytest.raises(PluginError, match="can't be read"):
        read_source(tmp_path / "gone.py")


def test_settings_are_read_in_camel_case() -> None:
    settings = read_options(PolicySettings, {"entryPoints": ["a"], "deadline": "250ms", "memory": "512Mi"})
    assert (settings.entry_points, settings.deadline, settings.memory) == (("a",), 0.25, 512 * 1024**2)
