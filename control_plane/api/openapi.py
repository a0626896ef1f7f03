"""Makes the OpenAPI 3.1 document out of the route table; nothing in it is written by hand but the introduction.

Served at `/openapi.json`, shown by `/docs`, tested by openapi-spec-validator and schemathesis.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from ... import __version__
from .answers import Problem
from .problems import TITLES
from .route import BYTES, JSON, MERGE_PATCH, PATH_PARAMETERS, PROBLEM_JSON, Route

Schema = dict[str, Any]

_REF = "#/components/schemas/{model}"
_PAGE_NAME = re.compile(r"ObjectPage_(\w+)_")
_TAGS = {
    "slices": "The slice that this control plane serves: quotas, failover timings, targets.",
    "datacenters": "Places that clusters and nodes stand in.",
    "clusters": "Groups of nodes.",
    "nodes": "Machines with an agent.",
    "applications": "What is to run.",
    "models": "Models and their contents.",
    "policies": "Policy plugins that decide placement and adaptation.",
    "mechanisms": "Mechanism plugins that carry it out on nodes.",
    "rollouts": "Changes in progress; written by the control plane alone.",
    "decisions": "What was decided, why, and what would be.",
    "telemetry": "What is measured.",
    "events": "What happened.",
    "logs": "What agents and components wrote.",
    "audit": "Who did what.",
    "joining": "How machines become nodes.",
    "tokens": "What people and programs authenticate with.",
    "system": "The server itself.",
}
_INTRODUCTION = """One slice's control plane. Objects are described with `PUT` and `PATCH`; the control plane decides,
agents carry out. Status is the control plane's to write. Every object carries a `resourceVersion`: give it back as
`If-Match` to write only over what you read, or watch from it. Changes take an `Idempotency-Key`. Errors are problem
documents (RFC 9457) with a `code` for programs and a `requestId` to find in the log."""


@cache
def openapi_document(routes: tuple[Route[Any], ...]) -> bytes:
    """The document as JSON."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    tags = dict.fromkeys(route.tag for route in routes)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Shoal",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": _TAGS[tag]} for tag in tags],
        "paths": paths,
        "components": {"schemas": _schemas(routes), "securitySchemes": _SECURITY},
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return _PAGE_NAME.sub(r"\1List", text).encode()


_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token; its role says what it may do."},
    "joinToken": {"type": "http", "scheme": "bearer", "description": "A join token; it can do nothing but join."},
}


def _operation(route: Route[Any]) -> Schema:
    operation: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route),
        "security": {"api": [{"token": []}], "join": [{"joinToken": []}], "none": []}[route.credential],
    }
    if route.roles:
        operation["x-shoal-roles"] = sorted(role.value for role in route.roles)
    if route.body_type:
        operation["requestBody"] = {"required": True, "content": {route.body_type: {"schema": _body_schema(route)}}}
    return operation


def _body_schema(route: Route[Any]) -> Schema:
    if route.body is not None:
        return _ref(route.body)
    if route.body_type == MERGE_PATCH:
        return {"type": "object", "description": f"The parts of the {route.kind} to change; null removes a key."}
    return {"type": "string", "contentMediaType": BYTES}


def _path_parameters(route: Route[Any]) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": PATH_PARAMETERS[name]}}
        for name in route.parameters
    ]


def _query_parameters(route: Route[Any]) -> list[Schema]:
    schema = route.query.model_json_schema(by_alias=True)
    required = schema.get("required", ())
    found = []
    for name, shape in schema.get("properties", {}).items():
        shown = {key: value for key, value in _without_null(shape).items() if key not in ("title", "description")}
        parameter: Schema = {"name": name, "in": "query", "schema": shown}
        if "description" in shape:
            parameter["description"] = shape["description"]
        found.append(parameter | ({"required": True} if name in required else {}))
    return found


def _without_null(shape: Schema) -> Schema:
    """A query has no null: a parameter is left out instead."""
    options: list[Schema] = [option for option in shape.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) != 1:
        return shape
    rest: Schema = {key: value for key, value in shape.items() if key not in ("anyOf", "default")}
    return rest | options[0]


def _header_parameters(route: Route[Any]) -> list[Schema]:
    found = []
    if route.preconditions:
        found.append(_header("If-Match", "The entity tag that the object must have, or `*`.", r'^(\*|"[0-9]{1,18}")$'))
    if route.preconditions and route.method != "DELETE":
        found.append(_header("If-None-Match", "`*`: the object must not exist.", r"^\*$"))
    if route.mutates:
        told = "The same key with the same request gets the same answer for a day."
        found.append(_header("Idempotency-Key", told, r"^[!-~]{1,128}$"))
    if "resource_version" in route.query.model_fields:
        found.append(_header("Last-Event-ID", "Resume a stream behind this event.", r"^[0-9]{1,18}$"))
    return found


def _header(name: str, description: str, pattern: str) -> Schema:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _responses(route: Route[Any]) -> Schema:
    answers = {str(status): _success(route, status) for status in (route.status, *route.also)}
    statuses = {400, 429, 503, *route.errors}
    if route.credential != "none":
        statuses |= {401, 403}
    problems = {str(status): _problem(status) for status in sorted(statuses) if str(status) not in answers}
    return answers | problems


def _success(route: Route[Any], status: int) -> Schema:
    told = {200: "Done.", 201: "Created.", 202: "Accepted; more is to come.", 206: "A part.", 304: "Not modified."}
    described: Schema = {"description": told.get(status, "See the answer."), "headers": {"X-Request-Id": _REQUEST_ID}}
    if status != 304:
        described["content"] = _content(route)
    if route.kind and route.kind == route.answer.__name__:
        described["headers"]["ETag"] = {"schema": {"type": "string"}, "description": "For `If-Match`."}
    return described


_REQUEST_ID: Schema = {"schema": {"type": "string"}, "description": "Also in the log."}


def _content(route: Route[Any]) -> Schema:
    text = {"schema": {"type": "string"}}
    match route.stream:
        case "bytes":
            media = BYTES if route.name == "getBlob" else "text/*"
            return {media: {"schema": {"type": "string", "contentMediaType": media}}}
        case "text":
            return {"text/plain": text}
        case "html":
            return {"text/html": text}
        case "events":
            return {JSON: {"schema": _ref(route.answer)}, "text/event-stream": text}
        case _:
            return {JSON: {"schema": _ref(route.answer)}}


def _problem(status: int) -> Schema:
    described: Schema = {
        "description": TITLES[status],
        "headers": {"X-Request-Id": _REQUEST_ID},
        "content": {PROBLEM_JSON: {"schema": _ref(Problem)}},
    }
    if status in (429, 503):
        described["headers"]["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
    return described


class _Generator(GenerateJsonSchema):
    """Shows the defaults of quantities as people write them: `5s`, not `5.0`."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of one model."""
        shape = super().model_schema(schema)
        for name, field in schema["cls"].model_fields.items():
            alias = field.alias or name
            found = shape.get("properties", {}).get(alias, {})
            if isinstance(found.get("default"), int | float) and "pattern" in json.dumps(found):
                model: BaseModel = schema["cls"].model_construct(**{name: field.default})
                found["default"] = model.model_dump(mode="json", by_alias=True, include={name})[alias]
        return shape


def _ref(model: type[Any]) -> Schema:
    if model is dict:
        return {"type": "object"}
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", model.__name__)
    return {"$ref": _REF.format(model=name)}


def _schemas(routes: tuple[Route[Any], ...]) -> Schema:
    models: dict[type[BaseModel], None] = {Problem: None}
    structs: dict[type[msgspec.Struct], None] = {}
    for model in (model for route in routes for model in (route.body, route.answer) if model is not None):
        if issubclass(model, BaseModel):
            models[model] = None
        elif issubclass(model, msgspec.Struct):
            structs[model] = None
    # Answers in validation mode too: what is left out because it isn't set needn't be there.
    _, shared = models_json_schema(
        [(model, "validation") for model in models], by_alias=True, ref_template=_REF, schema_generator=_Generator
    )
    _, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    schemas: Schema = shared["$defs"] | components
    return dict(sorted(schemas.items()))
