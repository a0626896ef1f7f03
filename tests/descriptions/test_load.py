"""Loading: files, folders and standard input, in order, with every error of all of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from shoal.descriptions.document import Limits
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import Application, Node, Slice
from shoal.descriptions.load import dump, kind_of, load_body, load_paths, load_text


def described(kind: str, name: str) -> str:
    return f"apiVersion: shoal.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n"


def test_a_file_may_hold_many_documents(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"{described('Slice', 'home')}---\n# nothing\n---\n{described('Node', 'a')}")
    assert [one.key for one in load_paths([file])] == [("Slice", "home"), ("Node", "a")]


def test_a_folder_is_read_by_name_and_only_what_is_a_description(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(described("Node", "b"))
    (tmp_path / "a.yml").write_text(described("Node", "a"))
    (tmp_path / "c.json").write_text(json.dumps(dump(Slice.model_validate({"metadata": {"name": "c"}}))))
    (tmp_path / "README.md").write_text("not: a: description")
    (tmp_path / "inner").mkdir()
    found = load_paths([tmp_path])
    assert [one.kind.metadata.name for one in found] == ["a", "b", "c"]
    assert [Path(one.document.file or "").name for one in found] == ["a.yml", "b.yaml", "c.json"]


def test_standard_input() -> None:
    (one,) = load_paths(["-"], stdin=io.BytesIO(described("Node", "a").encode()))
    assert isinstance(one.kind, Node)
    assert one.document.file == "<stdin>"


def test_json_files_tell_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"apiVersion": "shoal.dev/v1", "kind": "Node",\n "metadata": {"name": "A"}}')
    with pytest.raises(DescriptionError) as raised:
        load_paths([file])
    assert (raised.value.file, raised.value.line, raised.value.column) == (str(file), 2, 23)


def test_every_file_is_read_whatever_is_wrong_with_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text(described("Node", "B"))
    (tmp_path / "empty").mkdir()
    paths = [tmp_path, tmp_path / "missing.yaml", tmp_path / "empty"]
    with pytest.raises(DescriptionError) as raised:
        load_paths(paths)
    told = [str(error).replace(str(tmp_path), "") for error in raised.value.all]
    assert [text.split(";")[0] for text in told] == [
        "/a.yaml:2:1: not YAML: did not find expected node content, while parsing a flow node",
        "/b.yaml:3:18: metadata.name: 'B' is not allowed",
        "/missing.yaml: no such file or directory",
        "/empty: nothing to read in this folder",
    ]


def test_an_object_is_described_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(described("Node", "a"))
    (tmp_path / "b.yaml").write_text(f"{described('Slice', 'a')}---\n{described('Node', 'a')}")
    with pytest.raises(DescriptionError) as raised:
        load_paths([tmp_path])
    assert [error.line for error in raised.value.all] == [7]
    assert raised.value.message == f"Node a is described twice, first in {tmp_path / 'a.yaml'}:3"


def test_an_endless_file_is_cut_off_and_refused() -> None:
    with pytest.raises(DescriptionError, match="over the limit of"):
        load_paths(["/dev/zero"])


def test_limits_may_be_narrower() -> None:
    with pytest.raises(DescriptionError, match="over the limit of 20 bytes"):
        load_text(described("Node", "a"), limits=Limits(document_bytes_max=20))


def test_a_body_and_a_plain_value_are_read_alike() -> None:
    value = {"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": "a"}, "spec": {"layer": "edge"}}
    kind = kind_of(value)
    assert load_body(json.dumps(value).encode()) == kind
    assert kind_of(dump(kind)) == kind


def test_what_is_dumped_is_what_people_would_write() -> None:
    text = described("Application", "a") + (
        "spec:\n  components:\n    - {name: c, process: {command: [cat]}, resources: {cpu: 500m, memory: 64Mi}}\n"
    )
    (one,) = load_text(text)
    assert isinstance(one.kind, Application)
    component = dump(one.kind)["spec"]["components"][0]
    assert component["resources"] == {"cpu": "0.5", "memory": "64Mi", "disk": "0"}
    assert component["process"]["stopGrace"] == "5s"
    assert "inference" not in component
