"""What an all-seeing eye notes during a run: facts for the invariants and for the story of a violation.

Drivers and models report them through `World.note`; none of this is known to the cores. `about` names the things that a
fact belongs to, so that the story of one node, component or stream can be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EndCause = Literal["stopped", "crashed", "power", "guard"]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something true."""

    @property
    def about(self) -> tuple[str, ...]:
        """Keys of the stories that it belongs to."""
        return ()


@dataclass(frozen=True, slots=True)
class NodeFact(Fact):
    """Something true of a node."""

    node: str
    """Its name."""

    @property
    def about(self) -> tuple[str, ...]:
        """The node."""
        return (self.node,)


@dataclass(frozen=True, slots=True)
class DesiredApplied(NodeFact):
    """An agent began to act on a document."""

    epoch: int
    generation: int
    digest: str
    from_disk: bool


@dataclass(frozen=True, slots=True)
class DocumentLoaded(NodeFact):
    """An agent took a document from its disk at start; `is_true` if the control plane ever sealed these bytes."""

    digest: str
    is_true: bool


@dataclass(frozen=True, slots=True)
class AgentStarted(NodeFact):
    """A new life of the agent; `has_good` if its disk holds a whole document."""

    has_good: bool


@dataclass(frozen=True, slots=True)
class AgentEnded(NodeFact):
    """The agent was killed, or its machine lost power."""

    power: bool


@dataclass(frozen=True, slots=True)
class LinkFact(NodeFact):
    """The node's link came up or went down."""

    is_up: bool


@dataclass(frozen=True, slots=True)
class InstanceBegan(NodeFact):
    """A replica's process exists."""

    replica: str
    digest: str
    component: str
    """`application.component`."""
    is_single: bool

    @property
    def about(self) -> tuple[str, ...]:
        """The node, the replica and the component."""
        return self.node, self.replica, self.component


@dataclass(frozen=True, slots=True)
class InstanceReady(InstanceBegan):
    """A replica serves."""


@dataclass(frozen=True, slots=True)
class InstanceEnded(InstanceBegan):
    """A replica's process is gone."""

    cause: EndCause


@dataclass(frozen=True, slots=True)
class StopAsked(InstanceBegan):
    """The agent told a runner to stop an instance."""

    is_wanted: bool
    """True if the document in force on the node still wants exactly this instance."""
    was_ready: bool


@dataclass(frozen=True, slots=True)
class OutboxDropped(NodeFact):
    """An outbox gave something up."""

    urgency: int
    kept: tuple[int, int, int]
    """How many of P0, P1 and P2 it still holds."""
    seen: int
    """How many of that urgency it has given up in this life."""
    counted: int
    """How many it says it has."""


@dataclass(frozen=True, slots=True)
class OutboxSize(NodeFact):
    """An outbox is more than half full."""

    bytes: int
    quota: int

    @property
    def about(self) -> tuple[str, ...]:
        """Nobody's story: there are too many of them."""
        return ()


@dataclass(frozen=True, slots=True)
class EventEmitted(NodeFact):
    """A node's stream has a new durable event."""

    stream: str
    seq: int
    body: str

    @property
    def about(self) -> tuple[str, ...]:
        """The node and the stream."""
        return self.node, self.stream


@dataclass(frozen=True, slots=True)
class EventApplied(EventEmitted):
    """The control plane stored a node's event."""


@dataclass(frozen=True, slots=True)
class EventsGivenUp(NodeFact):
    """A node's outbox deleted events up to `upto` that the control plane had not acknowledged."""

    stream: str
    upto: int

    @property
    def about(self) -> tuple[str, ...]:
        """The node and the stream."""
        return self.node, self.stream


@dataclass(frozen=True, slots=True)
class RowsCommitted(Fact):
    """A leader wrote rows."""

    holder: str
    fence: int
    fence_max: int
    """Highest ever given out."""
    version: int


@dataclass(frozen=True, slots=True)
class WriteAcknowledged(Fact):
    """An operator was told that a write is on disk."""

    kind: str
    name: str
    version: int
    is_delete: bool

    @property
    def about(self) -> tuple[str, ...]:
        """The object."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class StoreOpened(Fact):
    """A control plane opened the store; what is in it, by kind and name, with its version."""

    versions: dict[tuple[str, str], int]
    positions: dict[tuple[str, str], int]
    """Node uid and stream → last event stored."""
    restored: bool = False
    """An operator put an older backup there."""


@dataclass(frozen=True, slots=True)
class ReplicaEvicted(NodeFact):
    """The control plane placed a replica anew because its node is lost."""

    replica: str

    @property
    def about(self) -> tuple[str, ...]:
        """The node and the replica."""
        return self.node, self.replica


@dataclass(frozen=True, slots=True)
class PhaseFact(NodeFact):
    """The control plane's verdict about a node changed."""

    phase: str


@dataclass(frozen=True, slots=True)
class MessageTaken(Fact):
    """The control plane acted on a message about `subject` that another identity, `sender`, had sent."""

    sender: str
    """User name of whoever really published it."""
    subject: str
    """Uid in the message."""

    @property
    def about(self) -> tuple[str, ...]:
        """Both."""
        return self.sender, self.subject


@dataclass(frozen=True, slots=True)
class NodeOverbooked(NodeFact):
    """Committed placements reserve more than the node has."""

    resource: str
    reserved: float
    capacity: float


@dataclass(frozen=True, slots=True)
class Tick(Fact):
    """A few seconds have passed: what has to be true of whole stretches of time is looked at now."""


@dataclass(frozen=True, slots=True)
class SettleOver(Fact):
    """The time after the last fault within which everything had to come right is over."""

    wrong: tuple[str, ...]
    """What is not right yet."""
    culprits: tuple[str, ...]
    """Whose story explains it."""

    @property
    def about(self) -> tuple[str, ...]:
        """Whoever is not right."""
        return self.culprits


@dataclass(frozen=True, slots=True)
class Connected(Fact):
    """The broker accepted a connection."""

    client: str


@dataclass(frozen=True, slots=True)
class FaultBegan(Fact):
    """Something was broken."""

    kind: str
    targets: tuple[str, ...]

    @property
    def about(self) -> tuple[str, ...]:
        """Whom it hit."""
        return self.targets


@dataclass(frozen=True, slots=True)
class FaultEnded(FaultBegan):
    """It was healed."""
