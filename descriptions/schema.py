"""Turns kinds into JSON Schema (2020-12), for editors, for the OpenAPI document and for `crds.py`.

Called by `shoal schema [KIND]` and the northbound API. Made by pydantic from the models themselves; what is added here
is defaults as people write them (`5s`, not `5.0`) and that `apiVersion` and `kind` must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .errors import DescriptionError
from .kinds import KINDS
from .phrases import nearest, one_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """The schema of one kind, or of any kind; raises `DescriptionError` for a kind that there isn't."""
    if kind is None:
        schemas = {name: _of_model(model) for name, model in KINDS.items()}
        definitions = {name: part for schema in schemas.values() for name, part in schema.pop("$defs", {}).items()}
        return {
            "$schema": DIALECT,
            "title": "Shoal",
            "oneOf": [{"$ref": f"#/$defs/{name}"} for name in KINDS],
            "$defs": definitions | schemas,
        }
    if kind not in KINDS:
        near = nearest(kind, KINDS)
        raise DescriptionError(f"unknown kind {kind[:64]!r}", expected=None if near else one_of(KINDS), nearest=near)
    return {"$schema": DIALECT, "$id": f"https://shoal.dev/schemas/v1/{kind.lower()}.json"} | _of_model(KINDS[kind])


class WrittenSchema(GenerateJsonSchema):
    """Schema of what people write; use it as `schema_generator` wherever kinds or parts of them get a schema."""

    schema_dialect = DIALECT

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """As pydantic's, with quantities as text, models by their keys, and null left out."""
        written = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return written if default is None else {**written, "default": _written(default, schema["schema"])}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: a title that repeats the key says nothing."""
        return False


def _of_model(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=WrittenSchema)
    schema["required"] = ["apiVersion", "kind", *schema.get("required", [])]
    return schema


def _written(default: Any, schema: Any) -> Any:
    """A default as it stands in YAML."""
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(default, Enum):
        return default.value
    if isinstance(default, tuple):
        return [_written(item, schema) for item in default]
    format_quantity = next(_formats(schema), None)
    return format_quantity(default) if format_quantity and isinstance(default, int | float) else default


def _formats(schema: Any) -> Iterator[Callable[[float], str]]:
    """What writes the quantities that may stand at this place."""
    if schema["type"] == "function-before" and "serialization" in schema:
        yield schema["serialization"]["function"]
    for inner in (schema.get("schema"), *schema.get("choices", ())):
        if isinstance(inner, dict):
            yield from _formats(inner)
