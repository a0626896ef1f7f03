"""The table itself: complete, consistent, and the source of a valid OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shoal.control_plane.api.handlers import HANDLERS
from shoal.control_plane.api.openapi import openapi_document
from shoal.control_plane.api.roles import PEOPLE, Role
from shoal.control_plane.api.route import PATH_PARAMETERS, Route
from shoal.control_plane.api.routes import ROUTES
from shoal.descriptions.kinds import KINDS

DOCUMENT: dict[str, Any] = json.loads(openapi_document(ROUTES))
DESIGNED = """
GET /v1/applications/{name}/placements, GET /v1/decisions, GET /v1/decisions/{id}, GET /v1/why, POST /v1/what-if,
POST /v1/telemetry/query, GET /v1/events, GET /v1/logs, GET /v1/audit, POST /v1/join-tokens, GET /v1/join-tokens,
DELETE /v1/join-tokens/{id}, POST /v1/join, POST /v1/nodes/{name}/cordon, POST /v1/nodes/{name}/uncordon,
POST /v1/nodes/{name}/drain, POST /v1/rollouts/{name}/pause, POST /v1/rollouts/{name}/resume,
POST /v1/rollouts/{name}/abort, PUT /v1/models/{name}/content, GET /v1/blobs/{sha256}, GET /healthz, GET /readyz,
GET /metrics, GET /openapi.json, GET /docs, GET /v1/rollouts, GET /v1/rollouts/{name}
"""


def operations() -> dict[str, tuple[Route[Any], dict[str, Any]]]:
    return {route.name: (route, DOCUMENT["paths"][route.path][route.method.lower()]) for route in ROUTES}


def test_names_and_places_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_every_route_of_the_design_is_there() -> None:
    there = {f"{route.method} {route.path}" for route in ROUTES}
    kinds = {
        f"{method} /v1/{word}{rest}"
        for word in ["slices", "nodes", "clusters", "datacenters", "applications", "models", "policies", "mechanisms"]
        for method, rest in (("GET", ""), *((method, "/{name}") for method in ("GET", "PUT", "PATCH", "DELETE")))
    }
    assert kinds | {one.strip() for one in DESIGNED.split(",")} <= there


def test_handlers_and_table_name_each_other() -> None:
    assert {route.handler for route in ROUTES} == set(HANDLERS)


def test_secrets_have_no_route_yet() -> None:
    assert not any("secret" in route.path for route in ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_row_makes_sense(route: Route[Any]) -> None:
    assert route.path.startswith(("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"))
    assert set(route.parameters) <= set(PATH_PARAMETERS)
    assert route.summary.endswith(".")
    assert route.kind in ("", *KINDS)
    assert bool(route.roles) == (route.credential == "api")
    if route.mutates:
        assert route.method != "GET"
        assert Role.VIEWER not in route.roles
        assert Role.AGENT not in route.roles
        assert Role.SLICE_ADMIN in route.roles
    if route.method == "GET" and route.credential == "api":
        assert route.roles <= PEOPLE | {Role.AGENT}
    if route.body_type:
        assert {413, 415} <= set(route.errors), "a body can be too large or of another type"


def test_an_agent_may_fetch_contents_and_nothing_else() -> None:
    assert [route.name for route in ROUTES if Role.AGENT in route.roles] == ["getBlob"]


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_has_each_route_and_no_other() -> None:
    shown = {
        (method.upper(), path, operation["operationId"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert shown == {(route.method, route.path, route.name) for route in ROUTES}


@pytest.mark.parametrize(("route", "operation"), operations().values(), ids=operations())
def test_the_document_shows_what_a_route_takes(route: Route[Any], operation: dict[str, Any]) -> None:
    by_place: dict[str, set[str]] = {}
    for parameter in operation["parameters"]:
        by_place.setdefault(parameter["in"], set()).add(parameter["name"])
    fields = {field.alias or name for name, field in route.query.model_fields.items()}
    assert by_place.get("path", set()) == set(route.parameters)
    assert by_place.get("query", set()) == fields
    assert ("Idempotency-Key" in by_place.get("header", set())) == route.mutates
    assert ("requestBody" in operation) == bool(route.body_type)
    assert operation.get("x-shoal-roles", []) == sorted(role.value for role in route.roles)
    statuses = {int(status) for status in operation["responses"]}
    assert statuses >= {route.status, *route.also, *route.errors, 400, 429, 503}
    assert (401 in statuses) == (route.credential != "none")


def test_names_of_schemas_are_for_people() -> None:
    assert not [name for name in DOCUMENT["components"]["schemas"] if not re.fullmatch(r"[A-Z][A-Za-z]+", name)]


def test_defaults_of_quantities_are_shown_as_people_write_them() -> None:
    shown = DOCUMENT["components"]["schemas"]["Timings"]["properties"]["heartbeat"]
    assert shown["default"] == "5s"
