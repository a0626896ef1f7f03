"""Seals of the simulation: the real envelopes with a keyed hash in place of Ed25519, a hundred times as fast.

What is simulated is that a forged, torn or replayed document is refused, which is all in `descriptions/signing.py` and
the agents' slots; the arithmetic of the curve adds nothing to that.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..descriptions.errors import ProtocolError
from ..descriptions.signing import KeyRing, SigningKey

KID = "5e1edb75e1edb75e"


@dataclass(frozen=True)
class MacKey(SigningKey):
    """Signs by keyed BLAKE2b."""

    private: Ed25519PrivateKey = field(default_factory=lambda: Ed25519PrivateKey.from_private_bytes(b"s" * 32))
    secret: bytes = b"the control plane's"

    @property
    def kid(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - as constant as the cached one
        """Always the same."""
        return KID

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return hashlib.blake2b(data, key=self.secret).digest()


@dataclass(frozen=True)
class MacRing(KeyRing):
    """Trusts one `MacKey`."""

    key: MacKey = field(default_factory=MacKey)

    def verify(self, kid: str, signature: bytes, data: bytes) -> None:
        """Raises `ProtocolError` unless the key signed exactly `data`."""
        if kid != self.key.kid or not hmac.compare_digest(signature, self.key.sign(data)):
            raise ProtocolError(f"not signed by the key {kid[:32]!r}, or changed since")


def mac_ring(key: MacKey) -> MacRing:
    """The ring that trusts this key."""
    return MacRing({}, key)
