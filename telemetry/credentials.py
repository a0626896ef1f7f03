"""Who may log in to the embedded broker: one secret key per slice, from which every password follows.

The control plane makes the key and hands each node its password when it joins; the broker derives the same password
when the node connects. Nothing per node is stored, and the key never leaves the control plane's host.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..descriptions.errors import DescriptionError

CONTROL_PLANE = "control-plane"
"""The control plane's username; every other username is a node's uid."""
USERNAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
"""Names of design §3. No dot, which starts the suffix of a client id, and no wildcard."""
KEY_BYTES = 32
FILE_BYTES_MAX = 4096


def broker_password(key: bytes, username: str) -> str:
    """The password that belongs to a username: base32 of HMAC-SHA256, lower case, without padding."""
    digest = hmac.new(key, username.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def is_password_right(key: bytes, username: str, password: str) -> bool:
    """Compare in constant time; usernames that no node can have are refused."""
    expected = broker_password(key, username if USERNAME.match(username) else "")
    return hmac.compare_digest(expected.encode(), password.encode()) and USERNAME.match(username) is not None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    slice: str
    key: str


@dataclass(frozen=True)
class BrokerCredentials:
    """What the embedded broker has to know; on disk as JSON `{slice, key}`, mode 0600."""

    slice: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not USERNAME.match(self.slice):
            raise DescriptionError(f"slice name {self.slice!r}", expected="lower-case letters, digits and dashes")
        if len(self.key) < KEY_BYTES:
            raise DescriptionError(f"broker key of {len(self.key)} bytes", expected=f"at least {KEY_BYTES}")

    @classmethod
    def create(cls, slice_name: str) -> BrokerCredentials:
        """A new random key."""
        return cls(slice_name, secrets.token_bytes(KEY_BYTES))

    @classmethod
    def load(cls, path: Path) -> BrokerCredentials:
        """Read the file; `DescriptionError` when it is malformed or others may read it."""
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise DescriptionError("others may read the broker's key", file=str(path), expected="mode 0600")
            text = file.read(FILE_BYTES_MAX + 1)
        try:
            parsed = msgspec.json.decode(text, type=_File)
            return cls(parsed.slice, bytes.fromhex(parsed.key))
        except (ValueError, DescriptionError) as error:  # msgspec's errors are ValueErrors
            raise DescriptionError(f"broker credentials: {error}", file=str(path)) from None

    def save(self, path: Path) -> None:
        """Write the file so that it is there whole, and readable only by its owner, or not at all."""
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_File(self.slice, self.key.hex())))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def password(self, username: str) -> str:
        """The password of a username."""
        return broker_password(self.key, username)
