"""What the control plane wants of one node: a whole document, never a difference.

Retained on `<uid>/down/desired`, sealed by `signing.py`. The order key is (epoch, generation): an agent never applies a
lower one, and an equal pair means an equal digest.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from .codec import Amount, Count, Id, Message, encode


class Artifact(Message, frozen=True):
    """Bytes to fetch over HTTP(S) and check before use."""

    url: str
    """Absolute, or a path on the control plane that the agent joined."""
    sha256: str
    size: Count


class InferenceTask(Message, frozen=True, tag_field="runs", tag="inference"):
    """Serve a model."""

    model: str
    version: str
    format: str
    artifact: Artifact | None = None
    """None for Python predictors, which are on the node already."""
    plugin: str = ""
    device: str = "cpu"
    options: dict[str, msgspec.Raw] = {}
    predictor: str = ""


class ListenPort(Message, frozen=True):
    """A TCP port that a process listens on; 0 takes any free one."""

    name: str
    port: Count = 0


class ReadyCheck(Message, frozen=True):
    """When a process counts as ready."""

    port: str
    path: str = ""
    timeout_s: Amount = 60.0


class ProcessTask(Message, frozen=True, tag_field="runs", tag="process"):
    """Run an allowed program."""

    command: tuple[str, ...]
    env: dict[str, str] = {}
    restart: Literal["always", "onFailure", "never"] = "always"
    ports: tuple[ListenPort, ...] = ()
    ready: ReadyCheck | None = None
    stop_grace_s: Amount = 5.0
    open_files: Count = 256


class PluginTask(Message, frozen=True, tag_field="runs", tag="plugin"):
    """Run by a mechanism plugin that owns the meaning of `spec`."""

    mechanism: str
    spec: dict[str, msgspec.Raw] = {}


Task = InferenceTask | ProcessTask | PluginTask


class ReplicaSpec(Message, frozen=True):
    """One replica that should run on the node."""

    id: Id
    """`<application>.<component>.<n>`, n never reused within the component."""
    application: str
    component: str
    revision: Count
    """Counts changes of what runs; a change means the replica is brought to it in place or made anew."""
    task: Task
    cpu: Amount = 0.0
    """Cores, also the limit of a process."""
    memory_bytes: Count = 0
    interacts: tuple[str, ...] = ()
    """Models that it calls through the node's gateway."""
    single_instance: bool = False
    draining: bool = False
    """Takes no new requests; stops when those in flight are answered."""


class Settings(Message, frozen=True):
    """How the agent behaves."""

    heartbeat_s: Amount = 5.0
    lease_s: Amount = 30.0
    telemetry_interval_s: Amount = 15.0
    telemetry_rates: dict[str, Amount] = {}
    """Metric name prefix to interval in seconds, where active policies ask for more."""
    log_level: str = "info"


class MechanismSetting(Message, frozen=True):
    """A lasting setting of a mechanism on this node, such as a CPU frequency; gone when it leaves the document."""

    mechanism: str
    target: str = ""
    """Replica id, component (`application.component`) or empty for the node."""
    verb: str = "set"
    arguments: dict[str, msgspec.Raw] = {}


class DesiredSpec(Message, frozen=True):
    """All that should be true on the node."""

    replicas: tuple[ReplicaSpec, ...] = ()
    settings: Settings = Settings()
    mechanisms: tuple[MechanismSetting, ...] = ()


class Desired(Message, frozen=True):
    """The document on `down/desired`."""

    node: Id
    """Node uid."""
    slice: Id
    epoch: Count
    generation: Count
    fence: Count
    digest: Id
    """SHA-256 of the encoded spec."""
    spec: DesiredSpec | None = None
    url: str = ""
    """Where the sealed document is when it is over 64 KiB; then `spec` is None."""


INLINE_MAX = 64 * 1024


def digest_of(spec: DesiredSpec) -> str:
    """SHA-256, hexadecimal, of the spec as it is sent."""
    return hashlib.sha256(encode(spec)).hexdigest()
