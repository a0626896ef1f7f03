"""Join tokens for operators, and joining for agents."""

from __future__ import annotations

from ....descriptions.messages.joining import JoinRequest
from ...documents import rfc3339
from ...store.records import StoredObject
from ...store.transaction import Transaction
from .. import join_tokens
from ..answers import Deleted, IssuedJoinToken, JoinTokenAnswer, JoinTokens
from ..call import Call, Reply, json_reply
from ..context import Context
from ..join_tokens import JOIN_TOKEN_KIND
from ..mutations import Target, mutate
from ..refusals import NotFoundError
from ..requests import JoinTokenRequest


async def create_join_token(context: Context, call: Call) -> Reply:
    """Mint a token; the answer is the only place where it is ever shown."""
    asked = call.body_as(JoinTokenRequest)

    def change(tx: Transaction) -> Reply:
        token, row = join_tokens.issue(tx, ttl_s=asked.ttl, node=asked.node or "")
        issued = IssuedJoinToken(token=token, **dict(_answer(row)))
        reply = json_reply(issued, status=201)
        return Reply(reply.body, reply.status, is_secret=True)

    return await mutate(context.store, call, Target(JOIN_TOKEN_KIND, asked.node or ""), change)


async def list_join_tokens(context: Context, _: Call) -> Reply:
    """Tokens that are not expired."""
    now_ms = int(context.now_s() * 1000)
    rows = await context.store.read(lambda tx: join_tokens.current(tx, now_ms))
    return json_reply(JoinTokens(items=tuple(_answer(row) for row in rows)))


async def delete_join_token(context: Context, call: Call) -> Reply:
    """Revoke a token."""
    target = Target(JOIN_TOKEN_KIND, call.path["id"])

    def change(tx: Transaction) -> Reply:
        if tx.get(target.kind, target.name) is None:
            raise NotFoundError(target.kind, target.name)
        last = tx.delete(target.kind, target.name)
        return json_reply(Deleted(kind=target.kind, name=target.name, uid=last.uid, resource_version=tx.version))

    return await mutate(context.store, call, target, change)


async def join(context: Context, call: Call) -> Reply:
    """Let a node in."""
    reply = await context.services.join(call.body_as(JoinRequest), call.credential, call.request_id)
    answer = json_reply(reply)
    return Reply(answer.body, headers=(("Cache-Control", "no-store"),), is_secret=True)


def _answer(row: StoredObject) -> JoinTokenAnswer:
    kept = join_tokens.decoded(row)
    return JoinTokenAnswer(
        id=row.name,
        node=kept.node,
        created=rfc3339(row.created_ms),
        expires=rfc3339(kept.expires_ms),
        used=bool(kept.used_by),
        used_by=kept.used_by,
    )
