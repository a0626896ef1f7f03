"""Becoming a node: one HTTP request with a one-time token, answered with everything the node needs from then on.

Called by `run.py` when there is no identity on disk. The nonce is on disk before the request, so that a reply that got
lost is simply asked for again. Blocking, over the standard library: call in a thread.
"""

from __future__ import annotations

import http.client
import secrets
from pathlib import Path

from ..descriptions.errors import ProtocolError, RefusedError, TransportError
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.joining import JoinReply, JoinRequest
from ..mechanisms.transfer.origin import Origins
from .config import ControlPlaneOptions
from .files import read_capped, write_whole
from .identity import Identity

PATH = "/v1/join"
REPLY_MAX = 64 * 1024
TOKEN_MAX = 4096
NONCE_FILE = "join-nonce"


def join_token(options: ControlPlaneOptions) -> str:
    """The token of the configuration; `RefusedError` when there is none."""
    if options.token:
        return options.token
    if options.token_file is None:
        raise RefusedError(
            "this node has not joined yet and has no join token: make one with `shoal token create` and set "
            "controlPlane.tokenFile or SHOAL_AGENT_CONTROL_PLANE_TOKEN_FILE"
        )
    token = read_capped(options.token_file, TOKEN_MAX)
    if token is None or not token.strip():
        raise RefusedError(f"{options.token_file} holds no join token")
    return token.decode("utf-8", "replace").strip()


def join_nonce(state_dir: Path) -> str:
    """The nonce of this node's request; the same until it has joined."""
    path = state_dir / NONCE_FILE
    kept = read_capped(path, 256)
    if kept:
        return kept.decode("ascii", "replace")
    nonce = secrets.token_hex(16)
    write_whole(path, nonce.encode())
    return nonce


def join(url: str, token: str, request: JoinRequest, options: ControlPlaneOptions) -> Identity:
    """Ask the control plane at `url`. Raises `RefusedError` when asking again is pointless, else `TransportError`."""
    origins = Origins(url, options.ca, options.plain_http)
    address = origins.address(PATH)
    connection = origins.connect(address, options.join_timeout_s)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
    try:
        connection.request("POST", address.target, encode(request), headers)
        response = connection.getresponse()
        body = response.read(REPLY_MAX + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # A token with letters that headers can't carry must not end up in the message.
        raise TransportError(f"{url}: {type(error).__name__} while joining") from None
    finally:
        connection.close()
    if response.status in (200, 201):
        return Identity(_reply(body))
    told = f"{url} answers {response.status}: {_problem(body).replace(token, '…')}"
    if response.status in (408, 429) or response.status >= 500:
        raise TransportError(told)
    raise RefusedError(told)


def _reply(body: bytes) -> JoinReply:
    reply = decode(JoinReply, body, REPLY_MAX)
    if not (reply.node_uid and reply.slice and reply.verify_keys and reply.broker.url):
        raise ProtocolError("JoinReply: without uid, slice, keys or broker")
    if any(not part.isprintable() or set(part) & set("/+#") for part in (reply.node_uid, reply.slice)):
        raise ProtocolError("JoinReply: uid or slice that cannot be part of a topic")
    return reply


def _problem(body: bytes) -> str:
    """What the answer says, shortened and made printable."""
    text = body[:500].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else " " for letter in text).strip() or "nothing"
