"""A real server over a real store on a free port, and the smallest services that a store alone can offer.

Nothing is faked that belongs to the API: tests speak HTTP. What lives in the cores (planner, windows, log relay) is
answered from rows, so that every route can be walked.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from shoal.control_plane.api import join_tokens, tokens
from shoal.control_plane.api.answers import Check, LogLine, MetricAnswer, MetricValue, Problem, Telemetry
from shoal.control_plane.api.refusals import NotFoundError
from shoal.control_plane.api.requests import LogQuery, TelemetryQuery, WhatIfRequest, WhyQuery
from shoal.control_plane.api.roles import Role
from shoal.control_plane.api.server import ApiOptions, ApiServer
from shoal.control_plane.api.services import RolloutVerb
from shoal.control_plane.documents import to_document
from shoal.control_plane.planner.explanation import Explanation, NodeExplanation, WhatIf
from shoal.control_plane.store.records import AuditEntry
from shoal.control_plane.store.store import Store
from shoal.control_plane.store.transaction import Transaction, new_uid
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import Kind, Node, Policy
from shoal.descriptions.kinds.meta import Metadata
from shoal.descriptions.messages.joining import BrokerAccess, JoinReply, JoinRequest

SLICE = "test"


@dataclass
class StoreServices:
    """`Services` over rows alone."""

    store: Store
    slice_name: str = SLICE
    blobs_by_node: dict[str, frozenset[str]] = field(default_factory=dict)
    steered: list[tuple[str, str]] = field(default_factory=list)
    lines: tuple[LogLine, ...] = (LogLine(line="one"), LogLine(line="two"))
    is_ready: bool = True

    async def admit(self, kind: Kind) -> None:
        """Refuse one policy by name, as an unknown plugin would be."""
        if isinstance(kind, Policy) and kind.spec.use == "unknown":
            raise DescriptionError("no such policy", path="spec.use", nearest="balanced")

    async def why(self, query: WhyQuery) -> Explanation:
        """Every node, feasible."""
        if await self.store.get("Application", query.application) is None:
            raise NotFoundError("Application", query.application)
        nodes = [row.name for row in await self.store.all("Node") if query.node in (None, row.name)]
        return Explanation(
            application=query.application,
            component=query.component,
            node=query.node or "",
            version=self.store.head,
            summary="all nodes are alike",
            running_on=(),
            would_choose=tuple(nodes[:1]),
            unplaced=0,
            counts=(),
            policies=(),
            nodes=tuple(NodeExplanation(node=name, feasible=True, chosen=0, running=0) for name in nodes),
        )

    async def what_if(self, request: WhatIfRequest) -> WhatIf:
        """Say how many objects would change."""
        count = len(request.objects) + len(request.remove)
        return WhatIf(version=self.store.head, summary=f"{count} objects would change")

    async def telemetry(self, query: TelemetryQuery) -> Telemetry:
        """One value for each query."""
        values = [MetricValue(metric=one.metric, value=1.0, age_s=0.5, samples=3) for one in query.queries]
        return Telemetry(answers=tuple(MetricAnswer(values=(value,)) for value in values))

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The lines at hand."""
        for line in self.lines[-query.tail :] if query.tail else ():
            yield line

    async def join(self, request: JoinRequest, token: str, request_id: str) -> JoinReply:
        """Make a node, as membership does: everything in one transaction."""
        return await self.store.write(lambda tx: self._join(tx, request, token, request_id))

    def _join(self, tx: Transaction, request: JoinRequest, token: str, request_id: str) -> JoinReply:
        claim = join_tokens.check(tx, token, nonce=request.nonce, node=request.name)
        uid = claim.used_by or new_uid(tx.now_ms)
        if not claim.used_by:
            node = Node(metadata=Metadata(name=request.name))
            tx.put("Node", request.name, to_document(node), expected_version=0, uid=uid)
            join_tokens.spend(tx, claim, nonce=request.nonce, node_uid=uid)
        api_token = tokens.issue(tx, Role.AGENT, f"agent:{request.name}", node_uid=uid)
        tx.append_audit(AuditEntry(claim.id, "join-token", "join", "Node", request.name, request_id))
        return JoinReply(
            node_uid=uid,
            node_name=request.name,
            slice=SLICE,
            broker=BrokerAccess(url="mqtt://127.0.0.1:1883", username=uid, password="not a secret"),
            api_url="http://127.0.0.1",
            api_token=api_token,
            verify_keys=(),
            heartbeat_s=5.0,
            lease_s=30.0,
        )

    async def steer_rollout(self, name: str, verb: RolloutVerb) -> None:
        """Remember it."""
        self.steered.append((name, verb))

    async def node_blobs(self, node_uid: str) -> frozenset[str]:
        """What the test allows."""
        return self.blobs_by_node.get(node_uid, frozenset())

    def decision_record(self, record: bytes) -> dict[str, object]:
        """Records of these tests are JSON."""
        decoded: dict[str, object] = msgspec.json.decode(record)
        return decoded

    async def checks(self) -> Sequence[Check]:
        """One check."""
        return (Check(name="broker", ok=self.is_ready, message="" if self.is_ready else "away"),)

    async def metrics(self) -> str:
        """One metric."""
        return "# TYPE shoal_nodes gauge\nshoal_nodes 0\n"


@dataclass(frozen=True)
class Heard:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON data."""
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of a problem; checks that it is one."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        problem = Problem.model_validate_json(self.body)
        assert problem.status == self.status
        assert problem.request_id == self.headers["X-Request-Id"]
        return problem.code


@dataclass
class Served:
    """A running server with a token for each role."""

    store: Store
    services: StoreServices
    server: ApiServer
    tokens: dict[Role, str]
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Where it is served."""
        return self.server.url

    def headers(self, role: Role = Role.SLICE_ADMIN, **more: str) -> dict[str, str]:
        """Headers with a role's token; underscores in the names become dashes."""
        return {"Authorization": f"Bearer {self.tokens[role]}"} | {
            name.replace("_", "-"): value for name, value in more.items()
        }

    async def ask(
        self, method: str, path: str, body: object = None, *, role: Role | None = Role.SLICE_ADMIN, **headers: str
    ) -> Heard:
        """Send JSON (bytes go as they are) and hear the whole answer; `role=None` sends no token."""
        sent = self.headers(role, **headers) if role else {key.replace("_", "-"): headers[key] for key in headers}
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        if data is not None and "Content-Type" not in sent:
            patch = "application/merge-patch+json"
            sent["Content-Type"] = patch if method == "PATCH" else "application/json"
        sending = None if data is None else io.BytesIO(data)
        async with self.http.request(method, URL(self.url + path, encoded=True), data=sending, headers=sent) as answer:
            return Heard(answer.status, answer.headers, await answer.read())

    async def put_node(self, name: str, **spec: object) -> Heard:
        """Apply a node."""
        body = {"apiVersion": "shoal.dev/v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
        return await self.ask("PUT", f"/v1/nodes/{name}", body)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve() as served:` starts a server; keyword arguments are its options."""

    @asynccontextmanager
    async def started(**options: object) -> AsyncIterator[Served]:
        settings = ApiOptions(**({"port": 0} | options))  # type: ignore[arg-type]
        async with await Store.open(f"sqlite:///{tmp_path}/shoal.db") as store:
            services = StoreServices(store)
            minted = await store.write(
                lambda tx: {
                    role: tokens.issue(tx, role, role.value, node_uid="uid-1" * (role is Role.AGENT)) for role in Role
                }
            )
            async with (
                ApiServer(store, services, settings) as server,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as http,
            ):
                yield Served(store, services, server, minted, http)

    return started
