"""Topics of the wire: built and parsed in one place, for control plane, agents, brokers and the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ProtocolError

ROOT = "shoal/1"
SHARED = "_"
"""Stands where a node uid would: what the control plane says to all."""


@dataclass(frozen=True)
class Topic:
    """A parsed topic: `shoal/1/<slice>/<node uid or _>/<channel…>`."""

    slice: str
    node: str
    channel: str
    """`up/hb`, `down/desired`, `up/ev/<stream>`; for shared topics `state`, `spread`, `routes/<model>`."""


def node_topic(slice_name: str, node: str, channel: str) -> str:
    """Topic of one node's channel, such as `up/hb`."""
    return f"{ROOT}/{slice_name}/{node}/{channel}"


def shared_topic(slice_name: str, channel: str) -> str:
    """Topic that every node of the slice may read, such as `state`."""
    return f"{ROOT}/{slice_name}/{SHARED}/{channel}"


def parse_topic(topic: str) -> Topic:
    """Split a topic; `ProtocolError` when it is not one of ours."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[:2] != ["shoal", "1"] or len(topic) > 512 or not all(parts):
        raise ProtocolError(f"not a topic of this protocol: {topic[:120]!r}")
    return Topic(parts[2], parts[3], "/".join(parts[4:]))


def agent_subscriptions(slice_name: str, node: str) -> tuple[str, ...]:
    """What an agent reads: its own `down/#` and what is said to all."""
    return node_topic(slice_name, node, "down/#"), shared_topic(slice_name, "#")


def control_plane_subscriptions(slice_name: str) -> tuple[str, ...]:
    """What a control plane reads: every node's `up/#` and its own canary."""
    return node_topic(slice_name, "+", "up/#"), shared_topic(slice_name, "canary")
