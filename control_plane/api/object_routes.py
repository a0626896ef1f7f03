"""Rows of the route table that are about objects: the same verbs for each kind, and what can be done to some."""

from __future__ import annotations

from typing import Any, TypeVar

from ...descriptions.kinds import (
    Application,
    Cluster,
    Datacenter,
    Kind,
    Mechanism,
    Model,
    Node,
    Policy,
    Rollout,
    Slice,
)
from .answers import ContentReceived, Deleted, ObjectPage, Placements
from .requests import ContentQuery, ObjectListQuery, WriteQuery
from .roles import ADMINS, CONTENT_READERS, DEPLOYING, NODE_KEEPING, NODE_STEERING, PEOPLE, STEERING, Role
from .route import BYTES, JSON, MERGE_PATCH, Route

K = TypeVar("K", bound=Kind)

CONTENT_BYTES_MAX = 4 * 1024**3

PLURALS: dict[str, str] = {
    "Slice": "slices",
    "Datacenter": "datacenters",
    "Cluster": "clusters",
    "Node": "nodes",
    "Application": "applications",
    "Model": "models",
    "Policy": "policies",
    "Mechanism": "mechanisms",
    "Rollout": "rollouts",
}
"""The kinds that the API shows, by the word in their paths."""

_WRITERS: dict[str, frozenset[Role]] = {
    "Slice": ADMINS,
    "Datacenter": NODE_KEEPING,
    "Cluster": NODE_KEEPING,
    "Node": NODE_KEEPING,
    "Application": DEPLOYING,
    "Model": DEPLOYING,
    "Policy": ADMINS,
    "Mechanism": ADMINS,
}
"""Who may write a kind. Rollouts are written by the control plane alone."""


def list_route(kind: type[K]) -> Route[ObjectPage[K]]:
    """`GET /v1/{kinds}`."""
    word = PLURALS[kind.__name__]
    return Route(
        name=f"list{word.capitalize()}",
        method="GET",
        path=f"/v1/{word}",
        handler="list_objects",
        roles=PEOPLE,
        summary=f"List {word}, or follow them with `watch`.",
        tag=word,
        answer=ObjectPage[kind],  # type: ignore[valid-type]
        query=ObjectListQuery,
        kind=kind.__name__,
        stream="events",
        errors=(410,),
    )


def get_route(kind: type[K]) -> Route[K]:
    """`GET /v1/{kinds}/{name}`."""
    word = PLURALS[kind.__name__]
    return Route(
        name=f"get{kind.__name__}",
        method="GET",
        path=f"/v1/{word}/{{name}}",
        handler="get_object",
        roles=PEOPLE,
        summary=f"Read {_one(kind)}.",
        tag=word,
        answer=kind,
        kind=kind.__name__,
        also=(304,),
        errors=(404,),
    )


def put_route(kind: type[K]) -> Route[K]:
    """`PUT /v1/{kinds}/{name}`: create, or replace labels, annotations and spec."""
    word = PLURALS[kind.__name__]
    return Route(
        name=f"apply{kind.__name__}",
        method="PUT",
        path=f"/v1/{word}/{{name}}",
        handler="put_object",
        roles=_WRITERS[kind.__name__],
        summary=f"Create {_one(kind)}, or replace its labels, annotations and spec; its status is left alone.",
        tag=word,
        answer=kind,
        query=WriteQuery,
        body=kind,
        body_type=JSON,
        also=(201,),
        kind=kind.__name__,
        mutates=True,
        preconditions=True,
        errors=(409, 412, 413, 415, 422),
    )


def patch_route(kind: type[K]) -> Route[K]:
    """`PATCH /v1/{kinds}/{name}`: merge (RFC 7396)."""
    word = PLURALS[kind.__name__]
    return Route(
        name=f"patch{kind.__name__}",
        method="PATCH",
        path=f"/v1/{word}/{{name}}",
        handler="patch_object",
        roles=_WRITERS[kind.__name__],
        summary=f"Change parts of {_one(kind)} by a JSON merge patch (RFC 7396).",
        tag=word,
        answer=kind,
        query=WriteQuery,
        body_type=MERGE_PATCH,
        kind=kind.__name__,
        mutates=True,
        preconditions=True,
        errors=(404, 409, 412, 413, 415, 422),
    )


def delete_route(kind: type[K]) -> Route[Deleted]:
    """`DELETE /v1/{kinds}/{name}`."""
    word = PLURALS[kind.__name__]
    return Route(
        name=f"delete{kind.__name__}",
        method="DELETE",
        path=f"/v1/{word}/{{name}}",
        handler="delete_object",
        roles=_WRITERS[kind.__name__],
        summary=f"Delete {_one(kind)}.",
        tag=word,
        answer=Deleted,
        query=WriteQuery,
        kind=kind.__name__,
        mutates=True,
        preconditions=True,
        errors=(404, 409, 412),
    )


def _one(kind: type[object]) -> str:
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    return f"{article} {kind.__name__}"


def _node_verb(verb: str, summary: str) -> Route[Node]:
    return Route(
        name=f"{verb}Node",
        method="POST",
        path=f"/v1/nodes/{{name}}/{verb}",
        handler=f"{verb}_node",
        roles=NODE_STEERING,
        summary=summary,
        tag="nodes",
        answer=Node,
        query=WriteQuery,
        kind="Node",
        mutates=True,
        errors=(404,),
    )


def _rollout_verb(verb: str, summary: str) -> Route[Rollout]:
    return Route(
        name=f"{verb}Rollout",
        method="POST",
        path=f"/v1/rollouts/{{name}}/{verb}",
        handler=f"{verb}_rollout",
        roles=STEERING,
        summary=summary,
        tag="rollouts",
        answer=Rollout,
        status=202,
        kind="Rollout",
        mutates=True,
        errors=(404, 409),
    )


CORDON = _node_verb("cordon", "Place nothing new on a node.")
UNCORDON = _node_verb("uncordon", "Let a node take replicas again; takes back a drain too.")
DRAIN = _node_verb("drain", "Move what runs on a node elsewhere, and place nothing new on it.")
PAUSE = _rollout_verb("pause", "Begin no further step of a rollout.")
RESUME = _rollout_verb("resume", "Go on with a paused rollout.")
ABORT = _rollout_verb("abort", "End a rollout; what was begun is taken back.")

PLACEMENTS = Route(
    name="listPlacements",
    method="GET",
    path="/v1/applications/{name}/placements",
    handler="list_placements",
    roles=PEOPLE,
    summary="Where an application's replicas are.",
    tag="applications",
    answer=Placements,
    kind="Application",
    errors=(404,),
)
PUT_CONTENT = Route(
    name="uploadModel",
    method="PUT",
    path="/v1/models/{name}/content",
    handler="put_content",
    roles=DEPLOYING,
    summary="Upload a model's contents; with an announced digest, a broken upload goes on where it stopped.",
    tag="models",
    answer=ContentReceived,
    query=ContentQuery,
    body_type=BYTES,
    body_bytes_max=CONTENT_BYTES_MAX,
    deadline_s=3600.0,
    also=(202,),
    kind="Model",
    mutates=True,
    errors=(404, 409, 413, 415, 422),
)
GET_BLOB = Route(
    name="getBlob",
    method="GET",
    path="/v1/blobs/{sha256}",
    handler="get_blob",
    roles=CONTENT_READERS,
    summary="Fetch contents by digest, whole or in ranges. An agent gets those of its own node.",
    tag="models",
    answer=bytes,
    also=(206, 304),
    stream="bytes",
    deadline_s=3600.0,
    errors=(404, 416),
)


_KINDS: tuple[type[Kind], ...] = (
    *(Slice, Datacenter, Cluster, Node),
    *(Application, Model, Policy, Mechanism, Rollout),
)


def _of_kind(kind: type[Kind]) -> tuple[Route[Any], ...]:
    reading: tuple[Route[Any], ...] = (list_route(kind), get_route(kind))
    return (*reading, put_route(kind), patch_route(kind), delete_route(kind)) if kind.__name__ in _WRITERS else reading


OBJECT_ROUTES: tuple[Route[Any], ...] = (
    *(route for kind in _KINDS for route in _of_kind(kind)),
    *(CORDON, UNCORDON, DRAIN, PAUSE, RESUME, ABORT, PLACEMENTS, PUT_CONTENT, GET_BLOB),
)
