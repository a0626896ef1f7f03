"""What clients send besides kinds: query parameters and bodies, as frozen models with their limits.

`routes.py` names them, `server.py` validates against them, OpenAPI shows them. Unknown keys are errors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ...descriptions.kinds import (
    Application,
    Cluster,
    Datacenter,
    Mechanism,
    Model,
    Node,
    Policy,
    Slice,
)
from ...descriptions.kinds.meta import Frozen, Name
from ...descriptions.quantities import Duration

LIST_LIMIT_MAX = 1000
VERSION_MAX = 2**53 - 1
"""Versions stay exact in every JSON reader (RFC 8259 §6)."""

Text = Annotated[str, StringConstraints(max_length=253, pattern=r"^[ -~]*$")]
Continue = Annotated[str, StringConstraints(max_length=512, pattern=r"^[A-Za-z0-9_-]*$")]
Statistic = Literal["last", "mean", "rate", "min", "max", "p50", "p95", "p99"]


class NoQuery(Frozen):
    """A route without query parameters."""


class ObjectListQuery(Frozen):
    """Which objects of a kind, and whether to go on following them."""

    label_selector: str = Field(default="", max_length=2048, pattern=r"^[ -~]*$")
    """`key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key`, `!key`, joined by commas."""
    limit: int = Field(default=500, ge=1, le=LIST_LIMIT_MAX)
    continue_: Continue = Field(default="", alias="continue")
    """From the `metadata.continue` of the page before."""
    watch: bool = False
    """Answer with server-sent events: first every object, or what changed since `resourceVersion`, then each change."""
    resource_version: int | None = Field(default=None, ge=0, le=VERSION_MAX)
    """With `watch`: start behind this version. `Last-Event-ID` wins over it."""


class WriteQuery(Frozen):
    """How to write."""

    dry_run: bool = False
    """Validate and answer as if, but commit nothing."""


class DecisionListQuery(Frozen):
    """Which decisions, newest first."""

    application: Text = ""
    component: Text = ""
    outcome: Text = ""
    limit: int = Field(default=100, ge=1, le=LIST_LIMIT_MAX)
    continue_: Continue = Field(default="", alias="continue")


class WhyQuery(Frozen):
    """Which placement to explain."""

    application: Name
    component: Name
    node: Name | None = None
    """Explain this node alone: why it was chosen, or why not."""


class EventListQuery(Frozen):
    """Which events, newest first; followed ones come in their order."""

    kind: Text = ""
    name: Text = ""
    application: Text = ""
    node: Text = ""
    reason: Text = ""
    limit: int = Field(default=200, ge=1, le=LIST_LIMIT_MAX)
    continue_: Continue = Field(default="", alias="continue")
    watch: bool = False
    """Answer with server-sent events from now on, or from `resourceVersion`."""
    resource_version: int | None = Field(default=None, ge=0, le=VERSION_MAX)


class LogQuery(Frozen):
    """Whose log lines: a node's agent, or the replicas of a component."""

    node: Name | None = None
    application: Name | None = None
    component: Name | None = None
    replica: str = Field(default="", max_length=200, pattern=r"^[ -~]*$")
    """Of the component; all when left out."""
    tail: int = Field(default=200, ge=0, le=10_000)
    """Lines to begin with."""
    follow: bool = False
    """Answer with server-sent events and go on as lines come."""


class AuditListQuery(Frozen):
    """Which audit rows, newest first."""

    actor: Text = ""
    kind: Text = ""
    name: Text = ""
    limit: int = Field(default=100, ge=1, le=LIST_LIMIT_MAX)
    continue_: Continue = Field(default="", alias="continue")


class ContentQuery(Frozen):
    """What is known of the contents before they are sent."""

    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Announced digest; with it an upload that broke off can be continued."""
    offset: int = Field(default=0, ge=0, le=2**40)
    """Where this part begins; as many bytes as the answer before said were received."""
    size: int | None = Field(default=None, ge=0, le=2**40)
    """Bytes of the whole; with it a body that ends early is kept as a part instead of being taken for the whole."""


class ObjectRef(Frozen):
    """One object by kind and name."""

    kind: str = Field(max_length=63)
    name: Name


WhatIfObject = Annotated[
    Slice | Node | Cluster | Datacenter | Application | Model | Policy | Mechanism, Field(discriminator="kind")
]


class WhatIfRequest(Frozen):
    """A change that isn't made: objects as they would be, and objects that would be gone."""

    objects: tuple[WhatIfObject, ...] = Field(default=(), max_length=1000)
    remove: tuple[ObjectRef, ...] = Field(default=(), max_length=1000)


class MetricQuery(Frozen):
    """A statistic over a window of one metric, over all or for each node, component or replica."""

    metric: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_./:-]*\*?$")
    """A name, or a prefix followed by `*`."""
    statistic: Statistic = "mean"
    window: Duration = Field(default=60.0, gt=0, le=86_400)
    node: Name | None = None
    application: Name | None = None
    component: Name | None = None
    by: Literal["none", "node", "component", "replica"] = "none"


class TelemetryQuery(Frozen):
    """Questions answered together, over the same moment."""

    queries: tuple[MetricQuery, ...] = Field(min_length=1, max_length=100)


class JoinTokenRequest(Frozen):
    """A token that lets one node join, once."""

    ttl: Duration = Field(default=900.0, ge=10, le=7 * 86_400)
    node: Name | None = None
    """Only for a node of this name."""


class NoBody(Frozen):
    """A route whose body is empty or `{}`."""


class ApiTokenRequest(Frozen):
    """A token for a person or program."""

    role: Literal["viewer", "operator", "deployer", "node-admin", "slice-admin"]
    subject: str = Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")
    """Who will hold it; audit rows show it."""
    ttl: Duration = Field(default=30 * 86_400.0, ge=60, le=90 * 86_400)
