"""Turns kinds into Kubernetes CustomResourceDefinitions, for `shoal crds` and the operator.

The schemas are structural (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#specifying-a-structural-schema), made from the JSON Schema of the models. What Kubernetes can't say (unknown keys are
errors, bounds of quantities, what fields say about each other) is checked again by the same models when the control
plane reads an object; defaults stay with it, too, so that stored objects hold what people wrote. There is no CRD for
Secret: Kubernetes keeps secrets of its own, encrypted where its operator wants it.
"""

from __future__ import annotations

import re
from typing import Any

from .kinds import KINDS
from .kinds.meta import NAME_PATTERN
from .schema import json_schema

GROUP = "shoal.dev"
VERSION = "v1"
CRD_KINDS = tuple(kind for kind in KINDS if kind != "Secret")

_PLURALS = {"Policy": "policies"}
_UNSUPPORTED = frozenset((
    "title", "default", "examples", "propertyNames", "patternProperties", "writeOnly", "additionalProperties", "const",
))  # fmt: skip
_AGE = ("Age", "date", ".metadata.creationTimestamp")
_PLUGIN_COLUMNS = (
    ("Use", "string", ".spec.use"),
    ("Enabled", "boolean", ".spec.enabled"),
    ("Strikes", "integer", ".status.strikes"),
)
_GROUP_COLUMNS = (("Nodes", "integer", ".status.nodes"), ("Ready", "integer", ".status.readyNodes"))
COLUMNS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Slice": (*_GROUP_COLUMNS, ("Replicas", "integer", ".status.replicas")),
    "Datacenter": (("Layer", "string", ".spec.layer"), *_GROUP_COLUMNS),
    "Cluster": (("Datacenter", "string", ".spec.datacenter"), *_GROUP_COLUMNS),
    "Node": (
        ("Layer", "string", ".spec.layer"),
        ("Phase", "string", ".status.phase"),
        ("Agent", "string", ".status.agentVersion"),
        ("Last seen", "date", ".status.lastSeen"),
    ),
    "Application": (
        ("Desired", "integer", ".status.desired"),
        ("Ready", "integer", ".status.ready"),
        ("Priority", "integer", ".spec.priority"),
    ),
    "Model": (
        ("Format", "string", ".spec.format"),
        ("Version", "string", ".spec.version"),
        ("Stored", "boolean", ".status.stored"),
    ),
    "Policy": _PLUGIN_COLUMNS,
    "Mechanism": _PLUGIN_COLUMNS,
    "Rollout": (
        ("Application", "string", ".spec.application"),
        ("Component", "string", ".spec.component"),
        ("Cause", "string", ".spec.cause"),
        ("Phase", "string", ".status.phase"),
    ),
}
"""What `kubectl get` shows: title, type and path."""


def crds() -> list[dict[str, Any]]:
    """Every CustomResourceDefinition, ready for `kubectl apply`."""
    return [crd(kind) for kind in CRD_KINDS]


def crd(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    singular = kind.lower()
    plural = _PLURALS.get(kind, f"{singular}s")
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": singular, "categories": ["shoal"]}
    columns = [{"name": name, "type": type_, "jsonPath": path} for name, type_, path in (*COLUMNS[kind], _AGE)]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root(kind)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "shoal"}},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _root(kind: str) -> dict[str, Any]:
    """The schema of a whole object; of `metadata` Kubernetes allows no more than rules for the name."""
    schema = json_schema(kind)
    definitions = schema["$defs"]
    properties = {part: _structural(schema["properties"][part], definitions) for part in ("spec", "status")}
    name = {"type": "string", "pattern": NAME_PATTERN, "maxLength": 63}
    required = {"required": ["spec"]} if "spec" in schema["required"] else {}
    return {
        "type": "object",
        "description": schema["description"],
        **required,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            **properties,
        },
    }


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One node of a JSON Schema in the form that Kubernetes takes."""
    schema = _resolved(schema, definitions)
    if "anyOf" in schema:
        return _union(schema, definitions)
    if "type" not in schema:  # the value of an option, whatever the plugin makes of it
        return {**_kept(schema), "x-kubernetes-preserve-unknown-fields": True}
    made = _kept(schema)
    if "const" in schema:
        made["enum"] = [schema["const"]]
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in made:  # a number in JSON Schema, a flag beside the limit in OpenAPI 3.0
            made |= {limit: made[bound], bound: True}
    if "items" in schema:
        made["items"] = _structural(schema["items"], definitions)
    if "properties" in schema:
        made["properties"] = {key: _structural(part, definitions) for key, part in schema["properties"].items()}
    elif schema["type"] == "object":
        made |= _mapping(schema, definitions)
    return made


def _mapping(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What stands for the values of a mapping with keys of people's choice; Kubernetes has no rules for the keys."""
    values = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
    if isinstance(values, dict) and values:
        return {"additionalProperties": _structural(values, definitions)}
    return {"x-kubernetes-preserve-unknown-fields": True}


def _union(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Kubernetes has no unions but int-or-string and null, so texts become one text and numbers join their text."""
    members = [_resolved(member, definitions) for member in schema["anyOf"]]
    others = [member for member in members if member.get("type") != "null"]
    extra = {"nullable": True} if len(others) < len(members) else {}
    extra |= _kept({key: value for key, value in schema.items() if key != "anyOf"})
    if len(others) == 1:
        return _structural(others[0], definitions) | extra
    text = _one_text([member for member in others if member["type"] == "string"])
    if len(others) > 1 and all(member["type"] == "string" for member in others):
        return {"type": "string", **text, **extra}
    return {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}], **text, **extra}


def _one_text(members: list[dict[str, Any]]) -> dict[str, Any]:
    """The pattern of a text that is one of several."""
    patterns = [member["pattern"].removeprefix("^").removesuffix("$") for member in members if "pattern" in member]
    words = [word for member in members for word in (*member.get("enum", ()), member.get("const")) if word]
    return {"pattern": f"^(?:{'|'.join([*patterns, *map(re.escape, words)])})$"}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    named: dict[str, Any] = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return named | rest


def _kept(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _UNSUPPORTED}
