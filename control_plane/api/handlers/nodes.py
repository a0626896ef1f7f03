"""Cordon, uncordon and drain: small changes of a node's spec that the control plane then acts on."""

from __future__ import annotations

from typing import Any

import msgspec

from ...store.transaction import Transaction
from ..call import Call, Reply
from ..context import Context
from ..mutations import Target, mutate
from ..refusals import NotFoundError
from .objects import object_reply


async def cordon_node(context: Context, call: Call) -> Reply:
    """Place nothing new here."""
    return await _set(context, call, cordoned=True)


async def uncordon_node(context: Context, call: Call) -> Reply:
    """Take replicas again; a drain ends too."""
    return await _set(context, call, cordoned=False, drained=False)


async def drain_node(context: Context, call: Call) -> Reply:
    """Move replicas away; the rows of the placements show how far that is."""
    return await _set(context, call, cordoned=True, drained=True)


async def _set(context: Context, call: Call, **wanted: bool) -> Reply:
    target = Target("Node", call.path["name"])

    def change(tx: Transaction) -> Reply:
        current = tx.get(target.kind, target.name)
        if current is None:
            raise NotFoundError(target.kind, target.name)
        document: dict[str, Any] = msgspec.json.decode(current.doc)
        spec = document.setdefault("spec", {})
        is_new = any(spec.get(key, False) != value for key, value in wanted.items())
        if not is_new:
            return object_reply(current)
        spec.update(wanted)
        return object_reply(tx.put("Node", target.name, msgspec.json.encode(document), new_generation=True))

    return await mutate(context.store, call, target, change)
