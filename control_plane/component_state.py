"""Internal rows beside Placement: what a component runs at a revision, what adaptation chose, what nodes were told.

Kept in the objects table under kinds of their own that the API does not show. Only the core of the control plane
writes them.
"""

from __future__ import annotations

import msgspec

from ..descriptions.messages.desired import MechanismSetting, ReplicaSpec

REVISION_KIND = "Revision"
COMPONENT_STATE_KIND = "ComponentState"
DESIRED_KIND = "Desired"


class Revision(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a component runs at a revision: replicas of older ones go on with it until an update replaces them.

    Named `<application>.<component>.<number>`; kept as long as a placement has the number or it is the newest.
    """

    application: str
    component: str
    number: int
    template: ReplicaSpec
    """`id` is empty; `desired.py` fills it for each replica."""
    secrets: tuple[str, ...] = ()
    """Names of Secrets whose values join the environment when a document is built; never stored here."""

    @property
    def name(self) -> str:
        """Of the row."""
        return f"{self.application}.{self.component}.{self.number}"


class Setting(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A lasting mechanism setting that adaptation chose."""

    setting: MechanismSetting
    node: str = ""
    """Name of the one node that it is meant for; empty means all nodes of the component."""


class ComponentState(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the control plane remembers of a component; named `<application>.<component>`."""

    application: str
    component: str
    revision: int = 0
    """Newest revision; 0 before the first."""
    digest: str = ""
    """Of what the newest revision was made from; another one means a new revision."""
    ordinal: int = 0
    """Highest one given to a replica."""
    scale: int | None = None
    """Replicas that adaptation wants; None before its first word."""
    settings: tuple[Setting, ...] = ()
    halted: int = 0
    """Revision whose update was aborted: not tried again until the component changes or the rollout is resumed."""

    @property
    def name(self) -> str:
        """Of the row."""
        return f"{self.application}.{self.component}"


class DesiredMark(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Newest document that a node was given; named by the node's uid."""

    node_uid: str
    generation: int
    digest: str
