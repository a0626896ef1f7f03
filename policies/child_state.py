"""What a policy process was told of the slice, and the views that are made of it."""

from __future__ import annotations

import os
from datetime import datetime

from ..descriptions.errors import ProtocolError
from ..descriptions.kinds.application import Application, Component
from ..descriptions.kinds.slice import Slice
from ..descriptions.messages.reported import MechanismReport
from .frames import ApplicationTold, Moment, Nodes, ReadingsTold, ReplicasTold, ReportsTold, SliceTold, Told
from .network import Network
from .node_table import NodeTable, table_of
from .reading import Reading, Statistic
from .relations import Relations, relations_of
from .request import Request
from .shared_columns import read_columns
from .view import Replica, Replicas, View


class ToldReadings:
    """The readings that the planner sent along; it satisfies `Metrics`."""

    def __init__(self) -> None:
        self._readings: dict[tuple[str, str, float, str, str], Reading] = {}

    def take(self, message: ReadingsTold) -> None:
        """Replace all."""
        self._readings = {
            (row.metric, row.statistic, row.window_s, row.node, row.component): Reading(
                row.value, row.age_s, row.samples
            )
            for row in message.readings
        }

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Reading | None:
        """One of them."""
        return self._readings.get((metric, statistic, window_s, node, component))


class ChildState:
    """The slice as told so far."""

    def __init__(self) -> None:
        self._nodes: NodeTable | None = None
        self._network: Network | None = None
        self._slice: Slice | None = None
        self._applications: dict[str, tuple[Application, Relations, dict[str, Component]]] = {}
        self._replicas = Replicas()
        self._readings = ToldReadings()
        self._reports: dict[str, tuple[MechanismReport, ...]] = {}

    def take_nodes(self, message: Nodes, descriptor: int) -> None:
        """Map the columns and close the descriptor."""
        try:
            columns, accelerators = read_columns(descriptor, len(message.facts), len(message.accelerator_kinds))
        finally:
            os.close(descriptor)
        self._nodes = table_of(
            message.facts,
            columns,
            accelerators,
            domains=(message.layers, message.clusters, message.datacenters),
            accelerator_kinds=message.accelerator_kinds,
        )
        self._network = Network(self._nodes, message.links)

    def take(self, message: Told) -> None:
        """Anything else that needs no answer."""
        match message:
            case SliceTold():
                self._slice = Slice.model_validate_json(message.body)
            case ApplicationTold():
                self._take_application(message)
            case ReplicasTold():
                self._take_replicas(message)
            case ReadingsTold():
                self._readings.take(message)
            case ReportsTold():
                self._take_reports(message)
            case _:
                raise ProtocolError(f"{type(message).__name__} asks for an answer")

    def view(self, moment: Moment) -> View:
        """The slice at one moment."""
        if self._nodes is None or self._network is None or self._slice is None:
            raise ProtocolError("asked before the slice was told")
        application, relations, _ = self._application(moment.application)
        self._nodes.moved()
        return View(
            now_s=moment.now_s,
            wall=datetime.fromisoformat(moment.wall),
            seed=moment.seed,
            slice=self._slice,
            application=application,
            request=Request(moment.cpu_millis, moment.memory_bytes, moment.disk_bytes),
            relations=relations,
            nodes=self._nodes,
            network=self._network,
            replicas=self._replicas,
            metrics=self._readings,
            reports=self._reports,
        )

    def component(self, application: str, component: str) -> Component:
        """One component as described."""
        return self._application(application)[2][component]

    def _application(self, name: str) -> tuple[Application, Relations, dict[str, Component]]:
        if name not in self._applications:
            raise ProtocolError(f"the application {name} was not told")
        return self._applications[name]

    def _take_application(self, message: ApplicationTold) -> None:
        application = Application.model_validate_json(message.body)
        parts = {part.name: part for part in application.spec.components}
        self._applications[message.name] = (application, relations_of(application), parts)

    def _take_replicas(self, message: ReplicasTold) -> None:
        if message.is_all:
            self._replicas = Replicas()
        for is_added, row in message.changes:
            replica = Replica(row.id, row.application, row.component, row.node, row.row, row.is_ready)
            if not is_added:
                self._replicas.take_back(replica)
            elif replica.id:
                self._replicas.insert(replica)
            else:
                self._replicas.add(replica)

    def _take_reports(self, message: ReportsTold) -> None:
        reports: dict[str, list[MechanismReport]] = {}
        for row in message.reports:
            report = MechanismReport(row.name, row.verbs, row.options, row.status)
            reports.setdefault(row.node, []).append(report)
        self._reports = {node: tuple(mechanisms) for node, mechanisms in reports.items()}
