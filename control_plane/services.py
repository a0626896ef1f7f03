"""What the API asks of the running control plane: the `Services` protocol over driver, planner, windows and commands.

Made by `run.py`. The driver changes with each life of the core, so it is looked up at each call; while no life is on,
what needs one is refused as unavailable for the moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ..descriptions.errors import DescriptionError, PluginError, RefusedError
from ..descriptions.kinds import Application, Kind, Mechanism, Node, Policy, Slice
from ..descriptions.kinds.meta import PluginUse
from ..descriptions.messages.desired import InferenceTask
from ..descriptions.messages.joining import JoinReply, JoinRequest
from ..telemetry.link_options import LinkState
from ..telemetry.prometheus import windows_text
from ..telemetry.window_query import Query, Row, query
from . import enrolment
from .api.answers import Check, LogLine, MetricAnswer, MetricValue, Telemetry
from .api.refusals import UnavailableError
from .api.requests import LogQuery, MetricQuery, TelemetryQuery, WhatIfRequest, WhyQuery
from .api.services import RolloutVerb
from .driver import Driver, World
from .effects import AnswerRollout, Effect
from .enrolment import Invitation
from .figures import figures
from .inputs import RolloutWanted
from .logs import LogReader, lines_of
from .planner.explanation import Explanation, WhatIf
from .revisions import BLOB_PATH
from .rows import Rows

ANSWER_S = 10.0
"""How long a commit may take that an answer waits for."""


@dataclass
class ControlPlaneServices:
    """The control plane as its API sees it."""

    world: World
    driver: Callable[[], Driver | None]
    """The present life, if there is one."""
    invitation: Callable[[], Invitation]
    password: Callable[[str], str]
    """A node's broker password, by uid."""

    @property
    def slice_name(self) -> str:
        """The slice that is served."""
        return self.world.slice_name

    async def admit(self, kind: Kind) -> None:
        """Refuse what can never work here."""
        match kind:
            case Application():
                self._admit_application(kind)
                await self._check_policies(kind.spec.policies, "spec.policies")
            case Slice():
                await self._check_policies(kind.spec.policies, "spec.policies")
            case Policy():
                await self._check_policies((kind.spec,), "spec")
            case Node():
                self._admit_node(kind)
            case Mechanism():
                pass  # whether a node has it is the node's to say
            case _:
                pass

    async def why(self, query: WhyQuery) -> Explanation:
        """Explain a component's placement."""
        driver = self._living()
        return await self.world.planning.explain(
            driver.snapshot(), query.application, query.component, query.node or ""
        )

    async def what_if(self, request: WhatIfRequest) -> WhatIf:
        """Plan over a changed present."""
        removed = [(one.kind, one.name) for one in request.remove]
        return await self.world.planning.what_if(self._living().snapshot(), request.objects, removed)

    async def telemetry(self, query: TelemetryQuery) -> Telemetry:
        """Read the windows, all queries over one moment."""
        now_s = self.world.clock()
        answers = await asyncio.to_thread(lambda: tuple(self._metric(one, now_s) for one in query.queries))
        return Telemetry(answers=answers)

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Lines of a node or a component."""
        return lines_of(LogReader(self._rows, self.world.commands), query)

    async def join(self, request: JoinRequest, token: str, request_id: str) -> JoinReply:
        """Let a node in."""
        self._admit_join()
        enrolled = await self.world.store.write(
            lambda tx: enrolment.enrol(tx, request, token, request_id, self.slice_name)
        )
        timings = self._living().core.membership.timings_for(enrolled.node.spec.layer.value)
        return enrolment.reply(enrolled, self.password(enrolled.uid), self.invitation(), timings)

    async def steer_rollout(self, name: str, verb: RolloutVerb) -> None:
        """Hand it to the core and wait for the commit."""
        driver = self._living()
        event = RolloutWanted(driver.new_id("rollout"), name, verb)
        answered: asyncio.Future[AnswerRollout] = asyncio.get_running_loop().create_future()

        def listen(effect: Effect) -> None:
            if isinstance(effect, AnswerRollout) and effect.id in ours and not answered.done():
                answered.set_result(effect)

        ours = {event.id}
        driver.listeners.append(listen)
        try:
            driver.handle(event)
            async with asyncio.timeout(ANSWER_S):
                answer = await answered
        except TimeoutError:
            raise UnavailableError("the database is slow: look again whether it has happened") from None
        finally:
            driver.listeners.remove(listen)
        if answer.reason:
            raise RefusedError(answer.reason)

    async def node_blobs(self, node_uid: str) -> frozenset[str]:
        """Models of the node's replicas, and its own document where that is large."""
        rows = self._rows()
        found = set()
        for placement in rows.placements_on(node_uid):
            revision = rows.revision_of(placement)
            task = revision.template.task if revision is not None else None
            if (
                isinstance(task, InferenceTask)
                and task.artifact is not None
                and task.artifact.url.startswith(BLOB_PATH)
            ):
                found.add(task.artifact.sha256)
        large = self.world.wire.large.get(node_uid)
        return frozenset({*found, *([large] if large else [])})

    def decision_record(self, record: bytes) -> dict[str, object]:
        """A stored record as data."""
        return self.world.planning.read_record(record)

    async def checks(self) -> Sequence[Check]:
        """Broker, leadership, planner."""
        link, driver = self.world.wire.link, self.driver()
        is_up = link.state is LinkState.CONNECTED
        is_led = driver is not None and driver.ready.is_set()
        return (
            Check(name="broker", ok=is_up, message="" if is_up else link.last_error or link.state.value),
            Check(name="leadership", ok=is_led, message="" if is_led else "starting, or another process leads"),
        )

    async def metrics(self) -> str:
        """Prometheus text: what is measured on nodes, and the control plane's own figures while a life is on."""
        driver = self.driver()
        measured = await asyncio.to_thread(windows_text, self.world.windows, self.world.clock())
        return measured + (figures(self.world, driver) if driver is not None else "")

    def _rows(self) -> Rows:
        return self._living().core.rows

    def _living(self) -> Driver:
        driver = self.driver()
        if driver is None or not driver.ready.is_set():
            raise UnavailableError("the control plane is starting")
        return driver

    def _admit_application(self, application: Application) -> None:
        rows = self._rows()
        for index, component in enumerate(application.spec.components):
            if component.container is not None:
                raise RefusedError(
                    f"spec.components[{index}]: no mechanism runs containers yet; use `process` or `inference`"
                )
        quota = rows.slice.spec.quotas.applications
        is_new = application.metadata.name not in rows.applications
        if quota is not None and is_new and len(rows.applications) >= quota:
            raise RefusedError(f"the slice's quota of {quota} applications is reached")

    def _admit_node(self, node: Node) -> None:
        rows = self._rows()
        quota = rows.slice.spec.quotas.nodes
        if quota is not None and node.metadata.name not in rows.nodes and len(rows.nodes) >= quota:
            raise RefusedError(f"the slice's quota of {quota} nodes is reached")

    def _admit_join(self) -> None:
        rows = self._rows()
        joined = sum(node.status is not None and bool(node.status.uid) for node in rows.nodes.values())
        quota = rows.slice.spec.quotas.nodes
        if quota is not None and joined >= quota:
            raise RefusedError(f"the slice's quota of {quota} nodes is reached")

    async def _check_policies(self, uses: Sequence[PluginUse], path: str) -> None:
        for index, use in enumerate(uses):
            where = path if path == "spec" else f"{path}[{index}]"
            try:
                await self.world.planning.check(use)
            except DescriptionError as error:
                told = f"{where}.{error.path}" if error.path else where
                raise DescriptionError(
                    error.message, path=told, expected=error.expected, nearest=error.nearest
                ) from error
            except PluginError as error:
                raise RefusedError(f"{where}: {error}") from error

    def _metric(self, asked: MetricQuery, now_s: float) -> MetricAnswer:
        question = Query(
            metric=asked.metric,
            statistic=asked.statistic,
            window_s=asked.window,
            node=asked.node or "",
            application=asked.application or "",
            component=asked.component or "",
            by=asked.by,
        )
        return MetricAnswer(values=tuple(map(_value, query(self.world.windows, question, now_s))))


def _value(row: Row) -> MetricValue:
    return MetricValue(
        metric=row.metric,
        unit=row.unit,
        node=row.node,
        component=row.component,
        replica=row.replica,
        value=row.value,
        age_s=row.age_s,
        samples=row.samples,
    )
