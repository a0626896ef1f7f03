"""Turns committed rows into what each node should run, and into which nodes serve a model.

Pure functions over `Rows`: the same rows give the same bytes, so a digest tells whether a node has to be told anything.
`core.py` calls them for the nodes and models that an event touched; generations come with the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ..descriptions.kinds import Mechanism, Node, Secret
from ..descriptions.kinds.application import Component
from ..descriptions.kinds.slice import Timings
from ..descriptions.labels import matches
from ..descriptions.messages.desired import DesiredSpec, MechanismSetting, ProcessTask, ReplicaSpec, Settings
from ..descriptions.messages.lease import Endpoint
from .component_state import Revision, Setting
from .placement import Placement
from .reconcile import linked
from .rows import Rows

SAMPLES_PER_WINDOW = 10
"""A statistic that something depends on is measured this often within its window."""
INTERVAL_S_MIN = 1.0


def spec_for(rows: Rows, node: Node, timings: Timings) -> DesiredSpec:
    """All that should be true on a node."""
    assert node.status is not None, "only joined nodes are told anything"
    placements = rows.placements_on(node.status.uid)
    replicas = [replica for placement in placements if (replica := replica_spec(rows, placement)) is not None]
    return DesiredSpec(
        replicas=tuple(replicas),
        settings=_settings(rows, placements, timings),
        mechanisms=tuple(_mechanisms(rows, node, placements)),
    )


def replica_spec(rows: Rows, placement: Placement) -> ReplicaSpec | None:
    """What a node is told of one replica; None when it should not have it."""
    revision = rows.revision_of(placement)
    if placement.wanted == "stop" or revision is None or _waits(rows, placement) or is_succeeded(rows, placement):
        return None
    template = revision.template
    return msgspec.structs.replace(
        template,
        id=placement.id,
        revision=placement.revision,
        draining=placement.wanted == "drain",
        task=_with_secrets(template.task, revision, rows.secrets) if revision.secrets else template.task,
    )


def takes_turns(component: Component, new: Placement, old: Placement) -> bool:
    """True when the old replica has to be gone before the new one may start."""
    has_fixed_port = component.process is not None and any(port.port for port in component.process.ports)
    return (
        component.single_instance
        or component.update_strategy.type == "recreate"
        or (has_fixed_port and new.node_uid == old.node_uid)
    )


def _waits(rows: Rows, placement: Placement) -> bool:
    old = rows.placements.get(placement.replaces)
    component = rows.component((placement.application, placement.component))
    if old is None or old.lost or component is None:
        return False
    return takes_turns(component, placement, old)


def is_succeeded(rows: Rows, placement: Placement) -> bool:
    """True for a single instance that was given up and replaced: its node must not start it again when it is back."""
    if not placement.lost:
        return False
    key = (placement.application, placement.component)
    revision = rows.revision_of(placement)
    return (
        revision is not None
        and revision.template.single_instance
        and any(other.replaces == placement.id for other in linked(rows.placements_of(key)))
    )


def _with_secrets(task: msgspec.Struct, revision: Revision, secrets: Mapping[str, Secret]) -> ProcessTask:
    assert isinstance(task, ProcessTask), "only processes have an environment"
    env = dict(task.env)
    for name in revision.secrets:
        if name in secrets:
            env |= {key: value.get_secret_value() for key, value in secrets[name].spec.values.items()}
    return msgspec.structs.replace(task, env=env)


def _settings(rows: Rows, placements: Iterable[Placement], timings: Timings) -> Settings:
    telemetry = rows.slice.spec.telemetry
    return Settings(
        heartbeat_s=timings.heartbeat,
        lease_s=timings.lease,
        telemetry_interval_s=telemetry.interval,
        telemetry_rates=dict(sorted(_rates(rows, placements, telemetry.interval).items())),
    )


def _rates(rows: Rows, placements: Iterable[Placement], interval_s: float) -> dict[str, float]:
    """Metrics that policies, and QoS targets and signals of the node's components, need more often than the rest."""
    rates = {metric: wanted_s for metric, wanted_s in rows.watched.items() if wanted_s < interval_s}
    for placement in placements:
        component = rows.component((placement.application, placement.component))
        for metric, window_s in _watched(component) if component is not None else ():
            wanted_s = max(window_s / SAMPLES_PER_WINDOW, INTERVAL_S_MIN)
            if wanted_s < rates.get(metric, interval_s):
                rates[metric] = wanted_s
    return rates


def _watched(component: Component) -> Iterator[tuple[str, float]]:
    for target in component.qos:
        yield target.metric, target.window
    if component.scaling is not None:
        yield component.scaling.signal.metric, component.scaling.signal.window


def _mechanisms(rows: Rows, node: Node, placements: Iterable[Placement]) -> Iterator[MechanismSetting]:
    """The operator's settings by name, then those that adaptation chose for what stands here."""
    for _, mechanism in sorted(rows.mechanisms.items()):
        if mechanism.spec.enabled and mechanism.spec.options and _selects(mechanism, node):
            options = {
                name: msgspec.Raw(msgspec.json.encode(value, order="sorted"))
                for name, value in sorted(mechanism.spec.options.items())
            }
            yield MechanismSetting(mechanism.spec.use, "", "set", options)
    for chosen in rows.settings_of_node(node.metadata.name):
        yield chosen.setting
    for key in sorted({(placement.application, placement.component) for placement in placements}):
        for chosen in rows.state_of(key).settings:
            if _is_meant(chosen, node, placements):
                yield chosen.setting


def _selects(mechanism: Mechanism, node: Node) -> bool:
    spec = mechanism.spec
    return (not spec.layers or node.spec.layer in spec.layers) and matches(spec.labels, node.metadata.labels)


def _is_meant(chosen: Setting, node: Node, placements: Iterable[Placement]) -> bool:
    if chosen.node and chosen.node != node.metadata.name:
        return False
    target = chosen.setting.target
    return target.count(".") < 2 or any(placement.id == target for placement in placements)


def endpoints_of(rows: Rows, model: str) -> tuple[Endpoint, ...]:
    """Gateways that serve a model: ready replicas that don't drain, on nodes that are there; sorted by node.

    Suspect nodes are left out as long as another one serves the model.
    """
    serving: dict[str, int] = {}
    for placement in rows.serving(model):
        if placement.wanted == "run" and placement.phase == "ready" and not placement.lost:
            serving[placement.node_uid] = serving.get(placement.node_uid, 0) + 1
    nodes = [(node, count) for uid, count in sorted(serving.items()) if (node := rows.node_of(uid)) is not None]
    sure = [(node, count) for node, count in nodes if node.status is not None and node.status.phase == "ready"]
    unsure = [(node, count) for node, count in nodes if node.status is not None and node.status.phase == "suspect"]
    return tuple(
        Endpoint(node.metadata.name, node.status.gateway, float(count))
        for node, count in sure or unsure
        if node.status is not None and node.status.gateway
    )
