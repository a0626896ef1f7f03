"""API tokens of people and programs."""

from __future__ import annotations

from ...documents import rfc3339
from ...store.records import StoredObject
from ...store.transaction import Transaction
from .. import tokens
from ..answers import ApiTokenAnswer, ApiTokens, Deleted, IssuedApiToken
from ..call import Call, Reply, json_reply
from ..context import Context
from ..mutations import Target, mutate
from ..refusals import NotFoundError
from ..requests import ApiTokenRequest
from ..roles import Role
from ..tokens import API_TOKEN_KIND


async def create_api_token(context: Context, call: Call) -> Reply:
    """Mint a token; the answer is the only place where it is ever shown."""
    asked = call.body_as(ApiTokenRequest)

    def change(tx: Transaction) -> Reply:
        token = tokens.issue(tx, Role(asked.role), asked.subject, ttl_s=asked.ttl)
        row = tx.get(API_TOKEN_KIND, tokens.id_of(token))
        assert row is not None, "it was just written"
        reply = json_reply(IssuedApiToken(token=token, **dict(_answer(row))), status=201)
        return Reply(reply.body, reply.status, is_secret=True)

    return await mutate(context.store, call, Target(API_TOKEN_KIND, asked.subject), change)


async def list_api_tokens(context: Context, _: Call) -> Reply:
    """Every token, expired ones included, without its secret."""
    rows = await context.store.all(API_TOKEN_KIND)
    return json_reply(ApiTokens(items=tuple(_answer(row) for row in rows)))


async def delete_api_token(context: Context, call: Call) -> Reply:
    """Revoke a token."""
    target = Target(API_TOKEN_KIND, call.path["id"])

    def change(tx: Transaction) -> Reply:
        if tx.get(target.kind, target.name) is None:
            raise NotFoundError(target.kind, target.name)
        last = tx.delete(target.kind, target.name)
        return json_reply(Deleted(kind=target.kind, name=target.name, uid=last.uid, resource_version=tx.version))

    return await mutate(context.store, call, target, change)


def _answer(row: StoredObject) -> ApiTokenAnswer:
    kept = tokens.decoded(row)
    return ApiTokenAnswer(
        id=row.name,
        role=kept.role.value,
        subject=kept.subject,
        node_uid=kept.node_uid,
        created=rfc3339(row.created_ms),
        expires=rfc3339(kept.expires_ms) if kept.expires_ms else "",
    )
