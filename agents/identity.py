"""Who this node is: the answer to its join request, kept on disk with mode 0600 and never logged.

`join.py` writes it once; `run.py` reads it at every start, before any network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..descriptions.errors import ProtocolError, TransportError
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.joining import JoinReply
from .files import read_capped, write_whole

FILE = "identity.json"
IDENTITY_MAX = 64 * 1024


@dataclass(frozen=True)
class Identity:
    """What a joined node knows of itself."""

    reply: JoinReply

    def __repr__(self) -> str:
        return f"Identity(node={self.reply.node_name!r}, uid={self.reply.node_uid!r}, slice={self.reply.slice!r})"


def load_identity(state_dir: Path) -> Identity | None:
    """None when the node has not joined yet; `TransportError` when the file cannot be used."""
    path = state_dir / FILE
    data = read_capped(path, IDENTITY_MAX)
    if data is None:
        return None
    if path.stat().st_mode & 0o077:
        raise TransportError(f"{path} can be read by others; make it private with `chmod 600 {path}`")
    try:
        return Identity(decode(JoinReply, data, IDENTITY_MAX))
    except ProtocolError as error:
        raise TransportError(f"{path} is damaged ({error}); remove it and join again with a new token") from None


def save_identity(state_dir: Path, identity: Identity) -> None:
    """Durable when this returns."""
    write_whole(state_dir / FILE, encode(identity.reply))
