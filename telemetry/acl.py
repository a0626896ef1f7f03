"""Who may publish and subscribe to what (design §5), as a decision and as Mosquitto's ACL file.

The embedded broker asks for each packet; operators of a Mosquitto put `mosquitto_acl` on disk. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..descriptions.topics import ROOT, SHARED
from .credentials import CONTROL_PLANE

TOPIC_BYTES_MAX = 512


@dataclass(frozen=True)
class Acl:
    """The rights of one slice's broker.

    A node writes `shoal/1/<slice>/<uid>/up/#` and reads `…/<uid>/down/#` and `…/_/#`. The control plane reads every
    node's `up/#`, writes every node's `down/#` and `_/#`, and reads what it said itself on `_/#`.
    """

    slice: str

    def may_write(self, username: str, topic: str) -> bool:
        """Whether this user may publish on this topic, have its will there, or clear what is retained there."""
        if "+" in topic or "#" in topic:
            return False
        levels = self._levels(topic)
        if levels is None:
            return False
        if username == CONTROL_PLANE:
            return levels[0] == SHARED or (levels[1] == "down" and len(levels) > 2)
        return levels[0] == username and levels[1] == "up" and len(levels) > 2

    def may_read(self, username: str, topic_filter: str) -> bool:
        """Whether this user may subscribe to this filter, or receive from this topic: it must grant nothing more."""
        levels = self._levels(topic_filter)
        if levels is None:
            return False
        if levels[0] == SHARED:
            return True
        if username == CONTROL_PLANE:
            return levels[1] == "up"
        return levels[0] == username and levels[1] == "down"

    def _levels(self, topic: str) -> list[str] | None:
        """The levels below the slice, or None when the topic is not below this slice."""
        prefix = f"{ROOT}/{self.slice}/"
        if not topic.startswith(prefix) or len(topic.encode()) > TOPIC_BYTES_MAX:
            return None
        levels = topic[len(prefix) :].split("/")
        return levels if len(levels) >= 2 and all(levels) else None


def mosquitto_acl(slice_name: str) -> str:
    """The same rights for Mosquitto (`acl_file`); `%u` is the username, with certificates their common name."""
    root = f"{ROOT}/{slice_name}"
    return "\n".join(
        (
            f"user {CONTROL_PLANE}",
            f"topic read {root}/+/up/#",
            f"topic write {root}/+/down/#",
            f"topic readwrite {root}/{SHARED}/#",
            "",
            f"pattern write {root}/%u/up/#",
            f"pattern read {root}/%u/down/#",
            f"pattern read {root}/{SHARED}/#",
            "",
        )
    )
