"""Signs what the control plane tells nodes, and checks it: Ed25519 (RFC 8032) over the exact bytes that travel.

The control plane seals desired documents, leases and commands; agents open them before they decode anything. The body
stays embedded as it was signed (`msgspec.Raw`), so nothing is ever encoded again to be checked. What the signature also
covers is the `context`, the topic that the message is for: a document of one node can't be replayed to another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .errors import ProtocolError, ShoalError, TransportError
from .messages.codec import SIZE_MAX, Message, decode, encode
from .messages.joining import VerifyKey

ENVELOPE_MAX = 512
"""What an envelope adds to its body at most, in bytes."""


class Sealed(Message, frozen=True):
    """The envelope; `sig` is base64 and covers the context, a zero byte and the bytes of `body`."""

    kid: str
    sig: str
    body: msgspec.Raw


@dataclass(frozen=True)
class SigningKey:
    """A private key; `kid` names it in envelopes."""

    private: Ed25519PrivateKey = field(repr=False)

    @cached_property
    def kid(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the public key."""
        return hashlib.sha256(self.private.public_key().public_bytes_raw()).hexdigest()[:16]

    @property
    def verify_key(self) -> VerifyKey:
        """What nodes get when they join."""
        public = self.private.public_key().public_bytes_raw()
        return VerifyKey(kid=self.kid, public_key=base64.b64encode(public).decode())

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(data)


@dataclass(frozen=True)
class KeyRing:
    """The public keys that a receiver trusts; several while keys are exchanged."""

    keys: Mapping[str, Ed25519PublicKey]

    def verify(self, kid: str, signature: bytes, data: bytes) -> None:
        """Raises `ProtocolError` unless the key `kid` signed exactly `data`."""
        key = self.keys.get(kid)
        if key is None:
            raise ProtocolError(f"signed with the unknown key {kid[:32]!r}")
        try:
            key.verify(signature, data)
        except InvalidSignature:
            raise ProtocolError(f"not signed by the key {kid!r}, or changed since") from None


def seal(key: SigningKey, body: bytes, *, context: str = "") -> bytes:
    """The envelope around `body`, which must be JSON."""
    signature = key.sign(_signed(context, body))
    return encode(Sealed(kid=key.kid, sig=base64.b64encode(signature).decode(), body=msgspec.Raw(body)))


def open_sealed(keys: KeyRing, data: bytes, size_max: int = SIZE_MAX + ENVELOPE_MAX, *, context: str = "") -> bytes:
    """The body of an envelope that a trusted key signed for this context; anything else is a `ProtocolError`."""
    sealed = decode(Sealed, data, size_max)
    body = bytes(sealed.body)
    try:
        signature = base64.b64decode(sealed.sig, validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError("a signature that isn't base64") from None
    keys.verify(sealed.kid, signature, _signed(context, body))
    return body


def key_ring(verify_keys: Iterable[VerifyKey]) -> KeyRing:
    """The ring of the keys that a join reply lists; raises `ProtocolError` for one that isn't Ed25519."""
    try:
        return KeyRing(
            {
                key.kid: Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public_key, validate=True))
                for key in verify_keys
            }
        )
    except ValueError as error:
        raise ProtocolError(f"not an Ed25519 public key: {error}") from None


def generate_key() -> SigningKey:
    """A new key from the operating system's randomness."""
    return SigningKey(Ed25519PrivateKey.generate())


def load_key(path: Path) -> SigningKey:
    """The key in a PEM file that nobody but its owner may read."""
    from cryptography.hazmat.primitives import serialization  # 2 MB that agents, which only verify, don't need

    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ShoalError(f"{path} can be read by others; make it private with `chmod 600 {path}`")
            key = serialization.load_pem_private_key(stream.read(65536), password=None)
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ShoalError(f"{path} is not a private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ShoalError(f"{path} is not an Ed25519 key")
    return SigningKey(key)


def save_key(key: SigningKey, path: Path) -> None:
    """Write a new file with mode 0600, durable before it has its name; an existing one is never overwritten."""
    from cryptography.hazmat.primitives import serialization

    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(path, pem)
    except OSError as error:
        raise TransportError(f"{path}: {error.strerror}") from error


def load_or_create_key(path: Path) -> SigningKey:
    """The key in the file, made at the first start."""
    if not path.exists():
        save_key(generate_key(), path)
    return load_key(path)


def _signed(context: str, body: bytes) -> bytes:
    return context.encode() + b"\0" + body


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)  # unlike rename, fails where the file exists
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
