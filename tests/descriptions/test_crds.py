"""CRDs: structural as Kubernetes defines it, and as wide as the kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft4Validator  # type: ignore[import-untyped]

from shoal.descriptions.crds import CRD_KINDS, crd, crds
from shoal.descriptions.kinds import KINDS
from shoal.descriptions.load import dump, kind_of
from shoal.descriptions.yaml import dump_yaml, load_yaml

from .kind_values import KIND_VALUES

# JSONSchemaProps of apiextensions.k8s.io/v1, without what structural schemas or CRDs refuse ($ref, definitions,
# dependencies, patternProperties, additionalItems, uniqueItems: true, id, $schema) and what Shoal has no use for.
ALLOWED = {
    "type", "description", "properties", "required", "items", "additionalProperties", "enum", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "nullable", "anyOf", "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def schema_of(kind: str) -> dict[str, Any]:
    (version,) = crd(kind)["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, but those under `anyOf`, which specify no structure."""
    yield path, schema
    for key, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{key}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from nodes(schema[inner], f"{path}[]")


def structural_faults(node: dict[str, Any]) -> Iterator[str]:
    """What the API server would refuse, rule by rule of the page that `crds.py` names."""
    is_int_or_string = node.get("x-kubernetes-int-or-string") is True
    is_open = node.get("x-kubernetes-preserve-unknown-fields") is True
    if node.keys() - ALLOWED:
        yield f"keywords {node.keys() - ALLOWED}"
    if "type" not in node and not is_int_or_string and not is_open:
        yield "no type"
    if is_int_or_string and ("type" in node or node.get("anyOf") != INT_OR_STRING):
        yield "int-or-string in another form than Kubernetes'"
    if "anyOf" in node and not is_int_or_string:
        yield "a union"
    if "properties" in node and "additionalProperties" in node:
        yield "properties and additionalProperties"
    if node.get("additionalProperties") is False:
        yield "additionalProperties: false"
    if node.get("type") == "array" and "items" not in node:
        yield "a list of anything"
    if node.get("type") == "object" and not {"properties", "additionalProperties"} & node.keys() and not is_open:
        yield "an object that is pruned to nothing"
    for flag, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if flag in node and (node[flag] is not True or limit not in node):
            yield f"{flag} without {limit}"


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_every_node_is_structural(kind: str) -> None:
    root = schema_of(kind)
    metadata = root["properties"]["metadata"]
    assert metadata.keys() == {"type", "properties"}
    assert metadata["properties"].keys() <= {"name", "generateName"}
    assert [(path, fault) for path, node in nodes(root) for fault in structural_faults(node)] == []


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_a_crd_takes_what_the_kind_takes(kind: str, count_case: Callable[[], None]) -> None:
    # Draft 4 is what OpenAPI 3.0 says `exclusiveMinimum` with.
    validator = Draft4Validator(schema_of(kind))

    @given(KIND_VALUES[kind])
    @settings(max_examples=40)
    def takes(value: dict[str, Any]) -> None:
        count_case()
        validator.validate(dump(kind_of(value)))

    takes()


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_printer_columns_point_to_fields(kind: str) -> None:
    (version,) = crd(kind)["spec"]["versions"]
    for column in version["additionalPrinterColumns"]:
        first, *path = column["jsonPath"].removeprefix(".").split(".")
        if first == "metadata":
            continue
        node = schema_of(kind)["properties"][first]
        for part in path:
            node = node["properties"][part]
        assert column["type"] in (node["type"], "date")


def test_names_and_scope() -> None:
    assert [one["metadata"]["name"] for one in crds()] == [
        "slices.shoal.dev", "datacenters.shoal.dev", "clusters.shoal.dev", "nodes.shoal.dev", "applications.shoal.dev",
        "models.shoal.dev", "policies.shoal.dev", "mechanisms.shoal.dev", "rollouts.shoal.dev",
    ]  # fmt: skip
    for one in crds():
        names = one["spec"]["names"]
        assert one["metadata"]["name"] == f"{names['plural']}.{one['spec']['group']}"
        assert names["categories"] == ["shoal"]
        assert one["spec"]["versions"][0]["subresources"] == {"status": {}}


def test_only_secrets_have_none() -> None:
    assert set(KINDS) - set(CRD_KINDS) == {"Secret"}


def test_crds_are_written_as_yaml_and_fit_into_an_object() -> None:
    text = dump_yaml(*crds())
    assert [document.value for document in load_yaml(text)] == crds()
    assert max(len(dump_yaml(one)) for one in crds()) < 256 * 1024


@pytest.mark.parametrize(
    ("path", "value", "is_right"),
    [
        ("replaceAfter", "never", True),
        ("replaceAfter", "20ms", True),
        ("replaceAfter", "soon", False),
        ("stormShare", 0, False),
        ("stormShare", 0.5, True),
    ],
)
def test_unions_of_texts_and_open_bounds_survive(path: str, value: Any, is_right: bool) -> None:
    failover = schema_of("Slice")["properties"]["spec"]["properties"]["failover"]
    assert Draft4Validator(failover).is_valid({path: value}) is is_right
