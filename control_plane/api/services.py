"""What the API needs of the rest of the control plane: everything that isn't a row.

`run.py` implements it over the cores, the planner, the telemetry windows and the link; tests implement it over the
store alone. Methods raise `DescriptionError` or a refusal of `refusals.py` with a sentence for the user, nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from ...descriptions.kinds import Kind
from ...descriptions.messages.joining import JoinReply, JoinRequest
from ..planner.explanation import Explanation, WhatIf
from .answers import Check, LogLine, Telemetry
from .requests import LogQuery, TelemetryQuery, WhatIfRequest, WhyQuery

RolloutVerb = Literal["pause", "resume", "abort"]


class Services(Protocol):
    """One slice's control plane, seen from its API."""

    @property
    def slice_name(self) -> str:
        """The slice that is served; other Slice objects are refused."""
        ...

    async def admit(self, kind: Kind) -> None:
        """Refuse an object before it is committed: options that don't fit their plugin, a quota that is reached.

        Raises `DescriptionError` or `RefusedError`. What may become right later (a model not uploaded yet) is admitted.
        """
        ...

    async def why(self, query: WhyQuery) -> Explanation:
        """The full table for a component: every failing constraint and every score, for all nodes or the one asked for.

        Raises `NotFoundError` for a component or node that nobody describes.
        """
        ...

    async def what_if(self, request: WhatIfRequest) -> WhatIf:
        """Plan over the present with these changes and touch nothing."""
        ...

    async def telemetry(self, query: TelemetryQuery) -> Telemetry:
        """Read the windows."""
        ...

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The last lines, and with `follow` those that come, until the iterator is closed."""
        ...

    async def join(self, request: JoinRequest, token: str, request_id: str) -> JoinReply:
        """Let a node in: mint uid and credentials, write the node and the audit row, spend the token.

        All in one transaction: `join_tokens.check`, then `tokens.issue` for the agent, then `join_tokens.spend`.
        Raises `UnauthorizedError` for a token that is wrong, spent or expired.
        """
        ...

    async def steer_rollout(self, name: str, verb: RolloutVerb) -> None:
        """Pause, resume or abort; returns once that is committed. The API has checked that the rollout exists."""
        ...

    async def node_blobs(self, node_uid: str) -> frozenset[str]:
        """Digests that a node may fetch: models of its placements and its own large documents."""
        ...

    def decision_record(self, record: bytes) -> dict[str, object]:
        """A stored decision record as JSON data for people."""
        ...

    async def checks(self) -> Sequence[Check]:
        """What has to work beside the store: broker, planner, leadership."""
        ...

    async def metrics(self) -> str:
        """Prometheus text of everything but the API itself, which adds its own."""
        ...
