"""What the API answers besides kinds, as frozen models; OpenAPI shows them and the client returns them.

What `why` and `what-if` answer is drawn in `planner/explanation.py`.

Unlike requests they let unknown keys pass, so that an older client reads a newer server.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ...descriptions.kinds import Kind

K = TypeVar("K", bound=Kind)


class Answer(BaseModel):
    """An immutable part of an answer."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
    )


class PageInfo(Answer):
    """Where a page stands."""

    resource_version: int = 0
    """The version at which all of it was true: watch from here."""
    continue_: str = Field(default="", alias="continue")
    """Pass on for the next page; empty on the last."""


def page_info(version: int, more: str = "") -> PageInfo:
    """Where a page stands, and the token of the next one."""
    return PageInfo.model_validate({"resourceVersion": version, "continue": more})


class ObjectPage(Answer, Generic[K]):
    """Objects of one kind in order of name."""

    kind: str
    items: tuple[K, ...] = ()
    metadata: PageInfo = PageInfo()


class Change(Answer, Generic[K]):
    """One server-sent event of a watch: `event` is the type, `id` the version, `data` this."""

    type: Literal["put", "delete"]
    object: K
    """As it is now; after a delete, as it was last."""


class DescriptionFault(Answer):
    """One mistake in a description, with its place in the body that was sent."""

    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None
    expected: str | None = None
    nearest: str | None = None
    file: str | None = None


class Problem(Answer):
    """An error as RFC 9457 has it (`application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    code: str
    """Stable word for programs."""
    request_id: str
    errors: tuple[DescriptionFault, ...] = ()
    received: int | None = None
    """Of an upload: where a continuation has to start."""


class PlacementAnswer(Answer):
    """One replica of an application."""

    id: str
    application: str
    component: str
    node: str
    node_uid: str
    wanted: Literal["run", "drain", "stop"]
    phase: str
    lost: bool = False
    """Its node is lost; a replacement may run already."""
    revision: int = 0
    cause: str = ""
    decision: str = ""
    message: str = ""
    gateway: str = ""
    """URL of the inference gateway of its node."""
    ports: dict[str, int] = {}
    created: str = ""


class Placements(Answer):
    """Where an application's replicas are."""

    application: str
    placements: tuple[PlacementAnswer, ...] = ()
    resource_version: int = 0


class Decision(Answer):
    """A decision; `record` (winner, runner-up, counts, policies, seed) comes only when one is asked for by id."""

    id: str
    time: str
    application: str
    component: str
    outcome: str
    record: dict[str, object] | None = None


class Decisions(Answer):
    """Decisions, newest first."""

    items: tuple[Decision, ...] = ()
    metadata: PageInfo = PageInfo()


class MetricValue(Answer):
    """One value with its age; older samples than the window are never used."""

    metric: str
    unit: str = ""
    node: str = ""
    component: str = ""
    """`application.component`."""
    replica: str = ""
    value: float
    age_s: float
    samples: int


class MetricAnswer(Answer):
    """Answer to one of the queries; empty when nothing fresh was measured."""

    values: tuple[MetricValue, ...] = ()


class Telemetry(Answer):
    """Answers in the order of the queries."""

    answers: tuple[MetricAnswer, ...] = ()


class EventAnswer(Answer):
    """Something that happened."""

    version: int
    time: str
    severity: Literal["info", "warning"]
    reason: str
    message: str
    kind: str = ""
    name: str = ""
    application: str = ""
    node: str = ""
    detail: dict[str, object] | None = None


class Events(Answer):
    """Events, newest first."""

    items: tuple[EventAnswer, ...] = ()
    metadata: PageInfo = PageInfo()


class LogLine(Answer):
    """One line of a log."""

    time: str = ""
    node: str = ""
    component: str = ""
    replica: str = ""
    stream: Literal["stdout", "stderr", "agent"] = "stdout"
    line: str


class LogLines(Answer):
    """The last lines."""

    lines: tuple[LogLine, ...] = ()


class AuditAnswer(Answer):
    """Who did what."""

    version: int
    time: str
    actor: str
    role: str
    action: str
    kind: str
    name: str
    request_id: str
    detail: dict[str, object] | None = None


class AuditTrail(Answer):
    """Audit rows, newest first."""

    items: tuple[AuditAnswer, ...] = ()
    metadata: PageInfo = PageInfo()


class JoinTokenAnswer(Answer):
    """A join token as it is remembered: without its secret."""

    id: str
    node: str = ""
    created: str
    expires: str
    used: bool = False
    used_by: str = ""
    """Uid of the node that it let in."""


class IssuedJoinToken(JoinTokenAnswer):
    """The one time that the secret is shown."""

    token: str


class JoinTokens(Answer):
    """Tokens that are not expired."""

    items: tuple[JoinTokenAnswer, ...] = ()


class ContentReceived(Answer):
    """How far an upload is; `complete` once digest and size are checked and the model refers to it."""

    model: str
    received: int
    complete: bool
    sha256: str = ""


class Deleted(Answer):
    """What was deleted."""

    kind: str
    name: str
    uid: str = ""
    resource_version: int = 0
    """Of the delete."""


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Check(Answer):
    """One thing that has to work."""

    name: str
    ok: bool
    message: str = ""


class ReadyAnswer(Answer):
    """Whether requests can be served; status 200 if all checks are well, else 503."""

    ready: bool
    checks: tuple[Check, ...] = ()


class ApiTokenAnswer(Answer):
    """An API token as it is remembered: without its secret."""

    id: str
    role: str
    subject: str
    node_uid: str = ""
    created: str
    expires: str = ""
    """Empty: it doesn't expire."""


class IssuedApiToken(ApiTokenAnswer):
    """The one time that the secret is shown."""

    token: str


class ApiTokens(Answer):
    """All API tokens."""

    items: tuple[ApiTokenAnswer, ...] = ()
