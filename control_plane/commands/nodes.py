"""Verbs on nodes, rollouts and tokens: cordon, uncordon, drain; pause, resume, abort; join and API tokens."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ...descriptions.units import parse_duration
from ..api.requests import ApiTokenRequest, JoinTokenRequest
from .objects import seconds_since
from .output import Format, Output, age, console, emit, table
from .session import connect, guarded, target

NodeName = Annotated[str, typer.Argument(help="Name of the node.")]
RolloutName = Annotated[str, typer.Argument(help="Name of the rollout.")]

token = typer.Typer(no_args_is_help=True, help="Tokens: let a node join, or a person or program use the API.")
rollout = typer.Typer(no_args_is_help=True, help="Steer a rollout.")


@guarded
def cordon(context: typer.Context, node: NodeName) -> None:
    """Place nothing new on a node."""
    with connect(context) as client:
        client.run(lambda api: api.cordon(node))
    console.print(f"node/{node} cordoned; what runs there stays. `shoal uncordon {node}` takes it back")


@guarded
def uncordon(context: typer.Context, node: NodeName) -> None:
    """Let a node take replicas again; takes back a drain too."""
    with connect(context) as client:
        client.run(lambda api: api.uncordon(node))
    console.print(f"node/{node} takes replicas again")


@guarded
def drain(context: typer.Context, node: NodeName) -> None:
    """Move what runs on a node elsewhere, replacement first, and place nothing new on it."""
    with connect(context) as client:
        client.run(lambda api: api.drain(node))
    console.print(f"node/{node} is being drained; `shoal get placements` shows how far it is")


@rollout.command()
@guarded
def pause(context: typer.Context, name: RolloutName) -> None:
    """Begin no further step."""
    with connect(context) as client:
        client.run(lambda api: api.pause(name))
    console.print(f"rollout/{name} paused")


@rollout.command()
@guarded
def resume(context: typer.Context, name: RolloutName) -> None:
    """Go on."""
    with connect(context) as client:
        client.run(lambda api: api.resume(name))
    console.print(f"rollout/{name} goes on")


@rollout.command()
@guarded
def abort(context: typer.Context, name: RolloutName) -> None:
    """End it and take back what was begun."""
    with connect(context) as client:
        client.run(lambda api: api.abort(name))
    console.print(f"rollout/{name} is being taken back")


@token.command("create")
@guarded
def create_join_token(
    context: typer.Context,
    node: Annotated[str, typer.Option(help="Only for a node of this name.")] = "",
    ttl: Annotated[str, typer.Option(help="How long it counts.")] = "15m",
    output: Output = Format.HUMAN,
) -> None:
    """Mint a token that lets one node join, once. It is shown here and nowhere else."""
    request = JoinTokenRequest(ttl=parse_duration(ttl), node=node or None)
    with connect(context) as client:
        issued = client.run(lambda api: api.create_join_token(request))
    if output is not Format.HUMAN:
        return emit(issued, output)
    console.print(issued.token, markup=False, soft_wrap=True)
    console.print(f"[dim]counts once, until {issued.expires}. On the node: SHOAL_AGENT_CONTROL_PLANE_TOKEN=… "
                  f"SHOAL_AGENT_CONTROL_PLANE_URL={target(context).url} shoal agent[/]")  # fmt: skip
    return None


@token.command("api")
@guarded
def create_api_token(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="Who will hold it; audit rows show it.")],
    role: Annotated[
        Literal["viewer", "operator", "deployer", "node-admin", "slice-admin"], typer.Option(help="What it may do.")
    ] = "viewer",
    ttl: Annotated[str, typer.Option(help="How long it counts, at most 90 days.")] = "720h",
    output: Output = Format.HUMAN,
) -> None:
    """Mint a token for a person or program. It is shown here and nowhere else."""
    request = ApiTokenRequest(role=role, subject=subject, ttl=parse_duration(ttl))
    with connect(context) as client:
        issued = client.run(lambda api: api.create_token(request))
    if output is not Format.HUMAN:
        return emit(issued, output)
    console.print(issued.token, markup=False, soft_wrap=True)
    return None


@token.command("list")
@guarded
def list_tokens(context: typer.Context, output: Output = Format.HUMAN) -> None:
    """List tokens, without their secrets."""
    with connect(context) as client:
        joins = client.run(lambda api: api.join_tokens()).items
        apis = client.run(lambda api: api.tokens()).items
    if output is not Format.HUMAN:
        return emit({"joinTokens": joins, "apiTokens": apis}, output)
    rows: list[tuple[object, ...]] = [
        (one.id, "join", one.node or "any node", "used" if one.used else "unused", age(seconds_since(one.created)))
        for one in joins
    ]
    rows += [(one.id, one.role, one.subject, "", age(seconds_since(one.created))) for one in apis]
    return table("", ["ID", "FOR", "WHO", "STATE", "AGE"], rows, empty="no tokens")


@token.command("revoke")
@guarded
def revoke(
    context: typer.Context, token_id: Annotated[str, typer.Argument(help="As `shoal token list` shows it.")]
) -> None:
    """Revoke a join or API token."""
    with connect(context) as client:
        is_join = any(one.id == token_id for one in client.run(lambda api: api.join_tokens()).items)
        if is_join:
            client.run(lambda api: api.delete_join_token(token_id))
        else:
            client.run(lambda api: api.delete_token(token_id))
    console.print(f"token {token_id} revoked")
