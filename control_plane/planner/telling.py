"""Keeps a policy process' copy of the slice current: tells what has changed since it was last told, nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from ...descriptions.kinds import Application, Slice
from ...policies.frames import (
    ApplicationTold,
    Moment,
    Nodes,
    ReadingRow,
    ReadingsTold,
    ReplicaRow,
    ReplicasTold,
    ReportRow,
    ReportsTold,
    SliceTold,
    Told,
)
from ...policies.reading import MetricUse
from ...policies.shared_columns import SharedColumns
from ...policies.view import NodeTable, Replicas, View
from .policy_process import PolicyProcess

APPLICATIONS_KEPT_MAX = 10_000


class Telling:
    """What one policy process knows."""

    def __init__(self, process: PolicyProcess, deadline_s: float) -> None:
        self._process = process
        self._deadline_s = deadline_s
        self._nodes: NodeTable | None = None
        self._columns: SharedColumns | None = None
        self._slice: Slice | None = None
        self._applications: dict[str, Application] = {}
        self._replicas: Replicas | None = None
        self._replicas_at = (0, 0)
        self._readings_at: tuple[float, str] | None = None
        self._reports: object = None

    def bring_up(self, view: View, metrics: tuple[MetricUse, ...], *, reports: bool = False) -> None:
        """Tell all that a question about `view` needs; `PluginError` where the process does not take it."""
        if view.nodes is not self._nodes:
            self._tell_nodes(view)
        assert self._columns is not None, "told with the nodes"
        self._columns.write_moving(view.nodes)
        messages = [*self._slice_news(view), *self._replica_news(view.replicas), *self._reading_news(view, metrics)]
        if reports and view.reports is not self._reports:
            self._reports = view.reports
            messages.append(_reports(view))
        if messages:
            self._process.tell(messages, self._deadline_s)

    def close(self) -> None:
        """Give the shared memory back."""
        if self._columns is not None:
            self._columns.close()
            self._columns = None

    def _tell_nodes(self, view: View) -> None:
        nodes = view.nodes
        self.close()
        self._columns = SharedColumns(len(nodes), len(nodes.accelerator_kinds))
        self._columns.write_static(nodes)
        links = view.network.links
        domains = (nodes.layers, nodes.clusters, nodes.datacenters)
        message = Nodes(nodes.facts, links, *domains, nodes.accelerator_kinds)
        self._process.tell([message], self._deadline_s, self._columns.fd)
        # Rows may mean other nodes now, so the replicas are told anew.
        self._nodes, self._replicas = nodes, None

    def _slice_news(self, view: View) -> Iterator[Told]:
        if view.slice is not self._slice:
            self._slice = view.slice
            yield SliceTold(view.slice.model_dump_json(by_alias=True, exclude={"status"}).encode())
        name = view.application.metadata.name
        if self._applications.get(name) is not view.application:
            if len(self._applications) >= APPLICATIONS_KEPT_MAX:
                self._applications.clear()
            self._applications[name] = view.application
            body = view.application.model_dump_json(by_alias=True, exclude_none=True, exclude={"status"})
            yield ApplicationTold(name, body.encode())

    def _replica_news(self, replicas: Replicas) -> Iterator[Told]:
        epoch, at = self._replicas_at
        if replicas is not self._replicas or epoch != replicas.epoch:
            self._replicas = replicas
            yield ReplicasTold(True, tuple((True, ReplicaRow(*one)) for one in replicas.all()))
        elif at < len(replicas.log):
            yield ReplicasTold(False, tuple((is_added, ReplicaRow(*one)) for is_added, one in replicas.log[at:]))
        self._replicas_at = (replicas.epoch, len(replicas.log))

    def _reading_news(self, view: View, metrics: tuple[MetricUse, ...]) -> Iterator[Told]:
        if not metrics or self._readings_at == (view.now_s, view.application.metadata.name):
            return
        self._readings_at = (view.now_s, view.application.metadata.name)
        yield ReadingsTold(tuple(row for use in metrics for row in _readings(view, use)))


def moment_of(view: View) -> Moment:
    """What a view knows beside the slice."""
    request = view.request
    return Moment(
        view.now_s,
        view.wall.isoformat(),
        view.seed,
        view.application.metadata.name,
        request.cpu_millis,
        request.memory_bytes,
        request.disk_bytes,
    )


def _readings(view: View, use: MetricUse) -> Iterator[ReadingRow]:
    """Over all, by node, by component of the application, and by component on each node where it stands."""
    name = view.application.metadata.name
    ends = [("", "")]
    ends += [(node, "") for node in view.nodes.names]
    ends += [("", f"{name}.{part.name}") for part in view.application.spec.components]
    standing = view.replicas.of_application(name)
    ends += sorted({(one.node, f"{name}.{one.component}") for one in standing})
    for node, component in ends:
        reading = view.metrics.read(use.metric, use.statistic, use.window_s, node=node, component=component)
        if reading is not None:
            yield ReadingRow(
                use.metric,
                use.statistic,
                use.window_s,
                node,
                component,
                reading.value,
                reading.age_s,
                reading.samples,
            )


def _reports(view: View) -> ReportsTold:
    return ReportsTold(
        tuple(
            ReportRow(node, one.name, one.verbs, one.options, one.status)
            for node, reports in view.reports.items()
            for one in reports
        )
    )
