"""Decision records: what a decision was made of and what came out, small enough to keep every one.

Written by `decide.py`, kept in the decisions table, read by `replay.py`, the API and people. Positional msgpack:
fields are only ever added at the end, with a default.
"""

from __future__ import annotations

import msgspec

from ...descriptions.errors import ProtocolError
from ..placement import AcceleratorHold, Reservation
from .snapshot import Need

RECORD_BYTES_MAX = 16 * 1024 * 1024


class PolicyRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A policy that was asked for, and how it fared."""

    name: str
    version: str
    weight: float
    options: str
    """JSON, camelCase, sorted."""
    fault: str = ""
    """Why it did not decide."""


class Choice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One replica's node, with the best of the others."""

    node: str
    total: float
    """Sum of scaled score times weight at that moment."""
    runner_up: str = ""
    """Empty where no other node was feasible."""
    runner_up_total: float = 0.0
    accelerators: tuple[AcceleratorHold, ...] = ()
    """Which ones it takes of the node."""


class Scored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of the best nodes before the first replica was placed, with what each policy said of it."""

    node: str
    total: float
    raw: tuple[float, ...]
    """In the order of the policies that score."""


class DecisionRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decision. `replay` over the same snapshot gives the same choices bit for bit."""

    version: int
    """Resource version of the snapshot."""
    inputs: bytes
    """Digest of the node columns that the proposal started from."""
    proposal: str
    """The same for all decisions of one proposal."""
    position: int
    """Within the proposal, from 0; earlier decisions of it are part of what this one saw."""
    seed: int
    need: Need
    policies: tuple[PolicyRecord, ...]
    scoring: tuple[str, ...]
    """Names of the policies whose scores counted, in order."""
    nodes: int
    """Nodes in the slice."""
    feasible: int
    """Nodes that could take the first replica."""
    counts: dict[str, int]
    """Constraint → nodes that fail it; taken before the first replica, or when no node was left."""
    choices: tuple[Choice, ...]
    """In the order of decision."""
    reserved: Reservation
    """What each replica takes, accelerators apart."""
    top: tuple[Scored, ...]
    unplaced: int

    def reservation(self, choice: Choice) -> Reservation:
        """What one of the replicas takes."""
        return msgspec.structs.replace(self.reserved, accelerators=choice.accelerators)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(DecisionRecord)


def encode_record(record: DecisionRecord) -> bytes:
    """As kept in the store."""
    return _ENCODER.encode(record)


def decode_record(data: bytes) -> DecisionRecord:
    """Read a record back; `ProtocolError` where it isn't one."""
    if len(data) > RECORD_BYTES_MAX:
        raise ProtocolError(f"decision record: {len(data)} bytes, over the limit of {RECORD_BYTES_MAX}")
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"decision record: {error}") from None


def readable(data: bytes) -> dict[str, object]:
    """A record for people and JSON, with names instead of positions; bytes are hexadecimal."""
    return {key: _readable(value) for key, value in msgspec.structs.asdict(decode_record(data)).items()}


def _readable(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_readable(one) for one in value]
    if isinstance(value, (PolicyRecord, Choice, Scored)):
        return {key: _readable(one) for key, one in msgspec.structs.asdict(value).items()}
    return msgspec.to_builtins(value)
