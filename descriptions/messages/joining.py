"""How an agent becomes a node: over HTTP with a one-time token; the control plane mints the uid."""

from __future__ import annotations

from .codec import Amount, Id, Message
from .reported import Inventory


class JoinRequest(Message, frozen=True):
    """Body of `POST /v1/join`; the token is the bearer token of the request."""

    name: str
    """Wished node name; an existing description of that name is taken over if no living node has it."""
    nonce: Id
    """Random; the same nonce and token again give the same answer (lost reply)."""
    inventory: Inventory = Inventory()
    agent_version: str = ""
    layer: str = ""
    """Only used where no description says otherwise."""


class BrokerAccess(Message, frozen=True):
    """Where and as whom the agent speaks MQTT."""

    url: str
    """`mqtt://host:port` or `mqtts://host:port`."""
    username: str
    password: str


class VerifyKey(Message, frozen=True):
    """A public key that signs desired documents, leases and commands."""

    kid: Id
    public_key: str
    """Ed25519, base64."""


class JoinReply(Message, frozen=True):
    """What an agent keeps on disk, mode 0600."""

    node_uid: Id
    node_name: Id
    slice: Id
    broker: BrokerAccess
    api_url: str
    api_token: str
    """Bearer token of role `agent`, for fetching models and large documents."""
    verify_keys: tuple[VerifyKey, ...]
    heartbeat_s: Amount
    lease_s: Amount
