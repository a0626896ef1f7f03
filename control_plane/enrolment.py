"""Lets an agent in: one transaction spends its join token, mints the node's uid and tokens, writes Node and audit rows.

`services.py` calls it for `POST /v1/join`. The same request again, after a lost reply, gets the same uid. A uid is
never used twice: a machine that joins anew under an old name is a new node, and the old uid is fenced by being nowhere.
"""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass

import msgspec

from ..descriptions.errors import RefusedError
from ..descriptions.kinds import Node
from ..descriptions.kinds.meta import Layer, Metadata
from ..descriptions.kinds.node import Accelerator, Hardware, NodeSpec, NodeStatus, Sensor
from ..descriptions.kinds.slice import Timings
from ..descriptions.messages.joining import BrokerAccess, JoinReply, JoinRequest, VerifyKey
from ..descriptions.messages.reported import Inventory
from .api import join_tokens, tokens
from .api.roles import Role
from .documents import from_row, to_document, with_status
from .store.records import AuditEntry, StoredObject
from .store.transaction import Transaction

ALIVE = frozenset({"ready", "suspect"})
"""Phases in which a node's name can't be taken by another machine."""


@dataclass(frozen=True)
class Invitation:
    """What every node of the slice is told."""

    slice: str
    api_url: str
    broker_url: str
    verify_keys: tuple[VerifyKey, ...]


@dataclass(frozen=True)
class Enrolled:
    """Who joined."""

    uid: str
    api_token: str
    node: Node


def enrol(tx: Transaction, request: JoinRequest, token: str, request_id: str, slice_name: str) -> Enrolled:
    """Let it in. Raises `UnauthorizedError` for a token that doesn't count, `RefusedError` for a name that is taken."""
    claim = join_tokens.check(tx, token, nonce=request.nonce, node=request.name)
    row = tx.get("Node", request.name)
    node = from_row(row, Node) if row is not None else None
    if claim.used_by:
        if row is None or node is None or node.status is None or node.status.uid != claim.used_by:
            raise RefusedError("this node joined and was removed since: ask for a new join token")
        tokens.revoke_of_node(tx, claim.used_by)
        uid = claim.used_by
    else:
        uid, node = _admit(tx, request, row, node)
        join_tokens.spend(tx, claim, nonce=request.nonce, node_uid=uid)
    api_token = tokens.issue(tx, Role.AGENT, f"agent:{request.name}", node_uid=uid)
    detail = msgspec.json.encode({"nodeUid": uid, "joinToken": claim.id, "slice": slice_name})
    subject = f"agent:{request.name}"
    tx.append_audit(AuditEntry(subject, Role.AGENT.value, "join", "Node", request.name, request_id, detail))
    return Enrolled(uid, api_token, node)


def _admit(tx: Transaction, request: JoinRequest, row: StoredObject | None, node: Node | None) -> tuple[str, Node]:
    """Write the Node with a new uid, over its description where there is one."""
    if row is not None and node is not None and node.status is not None and node.status.uid:
        if node.status.phase in ALIVE:
            raise RefusedError(
                f"a living node is called {request.name!r}: give this one another name, or delete that Node first"
            )
        tokens.revoke_of_node(tx, node.status.uid)
    uid = _new_uid()
    status = NodeStatus(
        uid=uid,
        agent_version=request.agent_version[:63],
        hardware=hardware_of(request.inventory),
        accelerators=accelerators_of(request.inventory),
        sensors=sensors_of(request.inventory),
    )
    if row is None or node is None:
        node = Node(metadata=Metadata(name=request.name), spec=NodeSpec(layer=_layer(request.layer)), status=status)
        tx.put("Node", request.name, to_document(node), expected_version=0, new_generation=True)
    else:
        tx.put("Node", request.name, with_status(row, status), expected_version=row.resource_version)
    return uid, node.model_copy(update={"status": status})


def _new_uid() -> str:
    """A UUID of version 7 (RFC 9562 §5.7): sorted by time of joining, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def _layer(wished: str) -> Layer:
    try:
        return Layer(wished)
    except ValueError:
        return Layer.EDGE


def hardware_of(inventory: Inventory) -> Hardware:
    """Hardware as the agent found it; what it couldn't find out is left out."""
    return Hardware(
        architecture=inventory.architecture[:31] or None,
        model=inventory.model[:255] or None,
        cpu=inventory.cpu or None,
        frequency=inventory.frequency_hz or None,
        memory=inventory.memory_bytes or None,
        disk=inventory.disk_bytes or None,
    )


def accelerators_of(inventory: Inventory) -> tuple[Accelerator, ...]:
    """Accelerators as the agent found them."""
    return tuple(
        Accelerator(type=one.type, model=one.model or None, count=one.count, memory=one.memory_bytes)
        for one in inventory.accelerators
    )


def sensors_of(inventory: Inventory) -> tuple[Sensor, ...]:
    """Sensors as the agent found them."""
    return tuple(Sensor(type=one.type, model=one.model or None, count=one.count) for one in inventory.sensors)


def reply(enrolled: Enrolled, password: str, invitation: Invitation, timings: Timings) -> JoinReply:
    """What the agent keeps on disk."""
    return JoinReply(
        node_uid=enrolled.uid,
        node_name=enrolled.node.metadata.name,
        slice=invitation.slice,
        broker=BrokerAccess(url=invitation.broker_url, username=enrolled.uid, password=password),
        api_url=invitation.api_url,
        api_token=enrolled.api_token,
        verify_keys=invitation.verify_keys,
        heartbeat_s=timings.heartbeat,
        lease_s=timings.lease,
    )
