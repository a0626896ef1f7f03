"""Pause, resume and abort a rollout. The request is audited first; the rollout core then carries it out."""

from __future__ import annotations

from ....descriptions.errors import RefusedError
from ....descriptions.kinds import Rollout
from ...documents import from_row
from ...store.transaction import Transaction
from ..call import Call, Reply
from ..context import Context
from ..mutations import Target, mutate
from ..refusals import NotFoundError
from ..services import RolloutVerb
from .objects import object_reply

_ENDED = frozenset({"done", "aborted", "failed"})


async def pause_rollout(context: Context, call: Call) -> Reply:
    """Begin no further step."""
    return await _steer(context, call, "pause")


async def resume_rollout(context: Context, call: Call) -> Reply:
    """Go on."""
    return await _steer(context, call, "resume")


async def abort_rollout(context: Context, call: Call) -> Reply:
    """End it and take back what was begun."""
    return await _steer(context, call, "abort")


async def _steer(context: Context, call: Call, verb: RolloutVerb) -> Reply:
    target = Target("Rollout", call.path["name"])

    def note(tx: Transaction) -> Reply:
        row = tx.get(target.kind, target.name)
        if row is None:
            raise NotFoundError(target.kind, target.name)
        status = from_row(row, Rollout).status
        if status is not None and status.phase in _ENDED:
            raise RefusedError(f"rollout {target.name!r} is {status.phase} already")
        return object_reply(row, status=call.route.status)

    noted = await mutate(context.store, call, target, note)
    if ("Idempotent-Replay", "true") in noted.headers:
        return noted
    await context.services.steer_rollout(target.name, verb)
    row = await context.store.get(target.kind, target.name)
    return noted if row is None else object_reply(row, status=call.route.status)
