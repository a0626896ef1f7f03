"""Where an application's replicas are: the committed Placement rows, with the address of each node's gateway."""

from __future__ import annotations

import msgspec

from ...documents import rfc3339
from ...placement import PLACEMENT_KIND, Placement
from ...store.reading import ReadTransaction
from ..answers import PlacementAnswer, Placements
from ..call import Call, Reply, json_reply
from ..context import Context
from ..refusals import NotFoundError


class _NodeStatus(msgspec.Struct):
    gateway: str = ""


class _NodeDocument(msgspec.Struct):
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


async def list_placements(context: Context, call: Call) -> Reply:
    """Every replica that there is, in order of its id; those of an application that was deleted too, till they stop."""
    application = call.path["name"]
    return json_reply(await context.store.read(lambda tx: _placements(tx, application)))


def _placements(tx: ReadTransaction, application: str) -> Placements:
    rows = tx.with_prefix(PLACEMENT_KIND, f"{application}.")
    if not rows and tx.get("Application", application) is None:
        raise NotFoundError("Application", application)
    found = [msgspec.json.decode(row.doc, type=Placement) for row in rows]
    gateways = {name: _gateway(tx, name) for name in {one.node_name for one in found}}
    answers = tuple(_answer(one, gateways[one.node_name]) for one in found)
    return Placements(application=application, placements=answers, resource_version=tx.version)


def _gateway(tx: ReadTransaction, node: str) -> str:
    row = tx.get("Node", node)
    return "" if row is None else msgspec.json.decode(row.doc, type=_NodeDocument).status.gateway


def _answer(one: Placement, gateway: str) -> PlacementAnswer:
    return PlacementAnswer(
        id=one.id,
        application=one.application,
        component=one.component,
        node=one.node_name,
        node_uid=one.node_uid,
        wanted=one.wanted,
        phase=one.phase,
        lost=one.lost,
        revision=one.revision,
        cause=one.cause,
        decision=one.decision,
        message=one.message,
        gateway=gateway,
        ports=one.ports,
        created=rfc3339(int(one.created_s * 1000)) if one.created_s else "",
    )
