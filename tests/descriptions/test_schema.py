"""JSON Schema: it is valid, says yes to whatever the kinds take, and no to what they refuse key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import KINDS
from shoal.descriptions.load import dump, kind_of
from shoal.descriptions.schema import json_schema

from .kind_values import KIND_VALUES


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_schema_takes_what_the_kind_takes(kind: str, count_case: Callable[[], None]) -> None:
    schema = json_schema(kind)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)

    @given(KIND_VALUES[kind])
    @settings(max_examples=25)
    def takes(value: dict[str, Any]) -> None:
        count_case()
        validator.validate(value)
        validator.validate(dump(kind_of(value)))

    takes()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_schema_refuses_unknown_keys_everywhere(kind: str) -> None:
    open_objects = [
        path
        for path, node in nodes(json_schema(kind))
        if "properties" in node and node.get("additionalProperties") is not False
    ]
    assert open_objects == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_defaults_fit_their_own_schema(kind: str) -> None:
    schema = json_schema(kind)
    for path, node in nodes(schema):
        if "default" in node:
            part = {**node, "$defs": schema["$defs"]}
            assert Draft202012Validator(part).is_valid(node["default"]), path


def test_defaults_are_written_as_people_write_them() -> None:
    definitions = json_schema("Slice")["$defs"]
    assert definitions["Timings"]["properties"]["heartbeat"]["default"] == "5s"
    assert definitions["SliceSpec"]["properties"]["policies"]["default"] == [{"use": "balanced"}]
    assert definitions["Failover"]["properties"]["replaceAfter"]["default"] == "1m"


def test_one_schema_for_every_kind() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": "a"}})
    assert not validator.is_valid({"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": "A"}})
    assert not validator.is_valid({"kind": "Node", "metadata": {"name": "a"}})


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(DescriptionError) as raised:
        json_schema("nod")
    assert str(raised.value) == "unknown kind 'nod'; did you mean 'Node'?"


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema."""
    if isinstance(schema, dict):
        if path.rsplit("/", 1)[-1] not in ("properties", "$defs"):
            yield path, schema
        for key, part in schema.items():
            if key != "default":
                yield from nodes(part, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from nodes(part, f"{path}/{index}")
