"""The slice's own secrets on disk: the key that signs what nodes obey, and the broker key that passwords follow from.

Made at the first start, mode 0600, in the state folder; `run.py` loads them and hands out what belongs to nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..descriptions.errors import RefusedError
from ..descriptions.signing import SigningKey, load_or_create_key
from ..telemetry.credentials import BrokerCredentials

SIGNING_FILE = "signing.pem"
BROKER_FILE = "broker.json"


@dataclass(frozen=True)
class Keys:
    """What only the control plane may know."""

    signing: SigningKey
    broker: BrokerCredentials = field(repr=False)
    broker_file: Path
    """The embedded broker reads the same file."""


def load_keys(state: Path, slice_name: str) -> Keys:
    """Load the keys, or make them at the first start; `RefusedError` when the folder belongs to another slice."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    signing = load_or_create_key(state / SIGNING_FILE)
    path = state / BROKER_FILE
    if not path.exists():
        BrokerCredentials.create(slice_name).save(path)
    broker = BrokerCredentials.load(path)
    if broker.slice != slice_name:
        raise RefusedError(f"{state} belongs to the slice {broker.slice!r}; give {slice_name!r} a stateDir of its own")
    return Keys(signing, broker, path)
