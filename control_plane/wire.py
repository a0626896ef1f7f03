"""Seals and publishes what the core wants said: documents, leases, acknowledgements, routes, commands.

Nothing here waits for the broker: what can't be sent now (no connection, a full queue) is counted, and the core's
reconciling sends it again where it matters. Used by `driver.py` and `node_commands.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from ..descriptions.errors import ShoalError, TransportError
from ..descriptions.messages.codec import Message, encode
from ..descriptions.messages.desired import INLINE_MAX, Desired
from ..descriptions.messages.lease import Ack, Command, ControlPlaneState, Lease, Routes, Spread
from ..descriptions.signing import SigningKey, seal
from ..descriptions.topics import node_topic, shared_topic
from ..telemetry.client import Client
from ..telemetry.link_options import Presence
from ..telemetry.publication import Publication
from .revisions import BLOB_PATH
from .store.blobs import BlobStore

logger = logging.getLogger(__name__)

CONNECTS_PER_S = 50.0
"""Nodes that should reconnect in a second after a broker was away."""


@dataclass
class Wire:
    """The way out to nodes."""

    slice_name: str
    key: SigningKey
    link: Client
    blobs: BlobStore
    sent: Counter[str] = field(default_factory=Counter)
    """By channel."""
    failed: Counter[str] = field(default_factory=Counter)
    """By channel: not connected, or the queue was full."""
    large: dict[str, str] = field(default_factory=dict)
    """Uid → SHA-256 of its document, where it is kept as a blob."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def lease(self, lease: Lease) -> None:
        """Answer a heartbeat."""
        self._sealed(lease.node, "down/lease", lease, qos=0)

    def command(self, uid: str, command: Command) -> None:
        """Ask for a one-shot verb. Raises `TransportError` when it can't be sent."""
        topic = node_topic(self.slice_name, uid, "down/cmd")
        expiry_s = max(int(command.deadline_s), 1)
        self.link.publish(topic, seal(self.key, encode(command), context=topic), qos=1, expiry_s=expiry_s)
        self.sent["down/cmd"] += 1

    def desired(self, desired: Desired) -> None:
        """Tell a node what to run; a document over 64 KiB is kept as a blob, and the node fetches it."""
        topic = node_topic(self.slice_name, desired.node, "down/desired")
        sealed = seal(self.key, encode(desired), context=topic)
        if len(sealed) <= INLINE_MAX:
            self.large.pop(desired.node, None)
            self._publish("down/desired", topic, sealed, qos=1, retain=True)
            return
        task = asyncio.create_task(self._by_url(desired, topic, sealed), name=f"desired-{desired.node}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def clear(self, uid: str) -> None:
        """Clear what a node that is gone would still read."""
        self.large.pop(uid, None)
        topic = node_topic(self.slice_name, uid, "down/desired")
        self._publish("down/desired", topic, b"", qos=1, retain=True)

    def ack(self, uid: str, ack: Ack) -> None:
        """Say how far a stream is stored."""
        self._publish("down/ack", node_topic(self.slice_name, uid, "down/ack"), encode(ack), qos=1)

    def routes(self, routes: Routes) -> None:
        """Say which gateways serve a model."""
        topic = shared_topic(self.slice_name, f"routes/{routes.model}")
        self._publish("routes", topic, encode(routes), qos=1, retain=True)

    def canary(self, seq: int) -> None:
        """Something to be echoed."""
        self._publish("canary", shared_topic(self.slice_name, "canary"), str(seq).encode())

    def state(self, fence: int, epoch: int, version: str) -> None:
        """Say that we are there and lead."""
        birth = presence_of(self.slice_name, self.link.session_id, fence, epoch, version).birth
        if birth is not None:
            self._publish("state", birth.topic, birth.payload, qos=1, retain=True)

    def spread(self, nodes: int) -> None:
        """Say over how long reconnects should be spread, by the number of nodes."""
        topic = shared_topic(self.slice_name, "spread")
        self._publish("spread", topic, encode(Spread(window_s=nodes / CONNECTS_PER_S)), qos=1, retain=True)

    async def close(self) -> None:
        """Wait for what is on its way to the blob store."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _by_url(self, desired: Desired, topic: str, sealed: bytes) -> None:
        try:
            sha256 = await asyncio.to_thread(_keep, self.blobs, sealed)
        except ShoalError as error:
            logger.warning("node=%s its document of %d bytes can't be kept: %s", desired.node, len(sealed), error)
            self.failed["down/desired"] += 1
            return
        self.large[desired.node] = sha256
        short = msgspec.structs.replace(desired, spec=None, url=BLOB_PATH + sha256)
        self._publish("down/desired", topic, seal(self.key, encode(short), context=topic), qos=1, retain=True)

    def _sealed(self, uid: str, channel: str, message: Message, *, qos: int) -> None:
        topic = node_topic(self.slice_name, uid, channel)
        self._publish(channel, topic, seal(self.key, encode(message), context=topic), qos=qos)

    def _publish(self, channel: str, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        try:
            self.link.publish(topic, payload, qos=qos, retain=retain)
        except TransportError:
            self.failed[channel] += 1
        else:
            self.sent[channel] += 1


def presence_of(slice_name: str, session: str, fence: int, epoch: int, version: str) -> Presence:
    """Birth and will of the control plane on `_/state`."""
    topic = shared_topic(slice_name, "state")
    birth = ControlPlaneState(online=True, session=session, fence=fence, epoch=epoch, version=version)
    will = ControlPlaneState(online=False, session=session)
    return Presence(
        will=Publication(topic, encode(will), qos=1, retain=True),
        birth=Publication(topic, encode(birth), qos=1, retain=True),
    )


def _keep(blobs: BlobStore, contents: bytes) -> str:
    with blobs.upload(None) as upload:
        upload.write(contents)
        return upload.finish().sha256
