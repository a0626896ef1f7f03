"""The committed rows as the cores see them: decoded, indexed, and with the core's own commits already counted in.

`core.py` applies what others commit (`RowsChanged`) and what it commits itself, as if that had succeeded; a driver
whose commit fails starts again from the database. Values are immutable; only this index of them changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..descriptions.kinds import (
    Application,
    Cluster,
    Datacenter,
    Mechanism,
    Model,
    Node,
    Policy,
    Rollout,
    Secret,
    Slice,
)
from ..descriptions.kinds.application import Component
from ..descriptions.kinds.meta import Metadata
from ..descriptions.messages.desired import InferenceTask
from .component_state import (
    COMPONENT_STATE_KIND,
    DESIRED_KIND,
    REVISION_KIND,
    ComponentState,
    DesiredMark,
    Revision,
    Setting,
)
from .inputs import Row, RowValue
from .placement import PLACEMENT_KIND, Placement

Key = tuple[str, str]
"""Application and component."""

K = TypeVar("K")
V = TypeVar("V")

_KIND_OF: dict[type, str] = {
    Placement: PLACEMENT_KIND,
    Revision: REVISION_KIND,
    ComponentState: COMPONENT_STATE_KIND,
    DesiredMark: DESIRED_KIND,
}


def kind_of(value: RowValue) -> str:
    """Under which kind a value is kept."""
    return _KIND_OF.get(type(value)) or type(value).__name__


def name_of(value: RowValue) -> str:
    """Under which name a value is kept."""
    match value:
        case Placement():
            return value.id
        case Revision() | ComponentState():
            return value.name
        case DesiredMark():
            return value.node_uid
        case _:
            return value.metadata.name


def is_component(state: ComponentState) -> bool:
    """False for the settings of a whole node, which are kept as `<node>.<mechanism>.<verb>`."""
    return "." not in state.component


@dataclass
class Index(Generic[K, V]):
    """Values by name under a key; keys without values vanish."""

    _named: dict[K, dict[str, V]] = field(default_factory=dict)

    def add(self, key: K, name: str, value: V) -> None:
        """Put a value under a key, in place of the one with the same name."""
        self._named.setdefault(key, {})[name] = value

    def drop(self, key: K, name: str) -> None:
        """Take a value away; nothing happens when it isn't there."""
        named = self._named.get(key)
        if named is not None:
            named.pop(name, None)
            if not named:
                del self._named[key]

    def under(self, key: K) -> Mapping[str, V]:
        """What is under a key."""
        return self._named.get(key) or {}

    def keys(self) -> Iterable[K]:
        """Keys that have values."""
        return self._named.keys()


@dataclass
class Rows:
    """Every row by kind and name, and the ways the cores look them up."""

    version: int = 0
    """Newest resource version seen."""
    slice: Slice = field(default_factory=lambda: Slice(metadata=Metadata(name="default")))
    nodes: dict[str, Node] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    mechanisms: dict[str, Mechanism] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    datacenters: dict[str, Datacenter] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    revisions: dict[str, Revision] = field(default_factory=dict)
    states: dict[str, ComponentState] = field(default_factory=dict)
    marks: dict[str, DesiredMark] = field(default_factory=dict)
    secret_versions: dict[str, int] = field(default_factory=dict)
    watched: dict[str, float] = field(default_factory=dict)
    """Metric → seconds between two samples that active policies need; not a row, but told to nodes like one."""
    _name_of_uid: dict[str, str] = field(default_factory=dict)
    _components_of: dict[str, dict[str, Component]] = field(default_factory=dict)
    _of_component: Index[Key, Placement] = field(default_factory=Index[Key, Placement])
    _of_node: Index[str, Placement] = field(default_factory=Index[str, Placement])
    _revisions: Index[Key, Revision] = field(default_factory=Index[Key, Revision])
    _rollouts: Index[Key, Rollout] = field(default_factory=Index[Key, Rollout])
    _states: Index[str, ComponentState] = field(default_factory=Index[str, ComponentState])
    _serving: Index[str, Placement] = field(default_factory=Index[str, Placement])
    _users_of_model: Index[str, str] = field(default_factory=Index[str, str])
    _users_of_secret: Index[str, str] = field(default_factory=Index[str, str])
    _naming_clusters: Index[str, Cluster] = field(default_factory=Index[str, Cluster])

    def __post_init__(self) -> None:
        self._tables: dict[str, dict[str, Any]] = {
            "Node": self.nodes,
            "Application": self.applications,
            "Model": self.models,
            "Policy": self.policies,
            "Mechanism": self.mechanisms,
            "Cluster": self.clusters,
            "Datacenter": self.datacenters,
            "Secret": self.secrets,
            "Rollout": self.rollouts,
            PLACEMENT_KIND: self.placements,
            REVISION_KIND: self.revisions,
            COMPONENT_STATE_KIND: self.states,
            DESIRED_KIND: self.marks,
        }

    def apply(self, row: Row) -> RowValue | None:
        """Take in one row; returns what was there before."""
        self.version = max(self.version, row.version)
        if row.value is None:
            return self.remove(row.kind, row.name)
        if isinstance(row.value, Secret):
            self.secret_versions[row.name] = row.version
        return self.put(row.value)

    def put(self, value: RowValue) -> RowValue | None:
        """Add or replace a value; returns what was there before."""
        if isinstance(value, Slice):
            before, self.slice = self.slice, value
            return before
        table = self._tables[kind_of(value)]
        name = name_of(value)
        old: RowValue | None = table.get(name)
        if old is not None:
            self._unindex(old)
        table[name] = value
        self._index(value)
        return old

    def remove(self, kind: str, name: str) -> RowValue | None:
        """Forget a value; returns it."""
        if kind == "Slice":
            return None
        before: RowValue | None = self._tables[kind].pop(name, None)
        if before is not None:
            self._unindex(before)
        return before

    def node_of(self, uid: str) -> Node | None:
        """The node that has this uid now; None for one that is gone or has joined again under another."""
        name = self._name_of_uid.get(uid)
        return None if name is None else self.nodes.get(name)

    def placements_of(self, key: Key) -> tuple[Placement, ...]:
        """Of a component, in the order in which they were made."""
        return tuple(sorted(self._of_component.under(key).values(), key=lambda placement: placement.ordinal))

    def placements_on(self, uid: str) -> tuple[Placement, ...]:
        """On a node, by id."""
        return tuple(placement for _, placement in sorted(self._of_node.under(uid).items()))

    def uids_with_placements(self) -> tuple[str, ...]:
        """Nodes that have any, sorted."""
        return tuple(sorted(self._of_node.keys()))

    def component(self, key: Key) -> Component | None:
        """As described now; None when nobody describes it any more."""
        return self._components_of.get(key[0], {}).get(key[1])

    def siblings_of(self, key: Key) -> Mapping[str, Component]:
        """Components of the same application by name, itself included."""
        return self._components_of.get(key[0], {})

    def components_of(self, application: str) -> tuple[Key, ...]:
        """Components described now, in the order of the description."""
        return tuple((application, name) for name in self._components_of.get(application, {}))

    def keys_of(self, application: str) -> tuple[Key, ...]:
        """Components described now or with anything left of them, sorted."""
        states = self._states.under(application).values()
        known = ((application, state.component) for state in states if is_component(state))
        return tuple(sorted({*self.components_of(application), *known}))

    def keys_on(self, uid: str) -> tuple[Key, ...]:
        """Components with a replica on a node, sorted."""
        found = {(placement.application, placement.component) for placement in self._of_node.under(uid).values()}
        return tuple(sorted(found))

    def keys(self) -> tuple[Key, ...]:
        """All components described now or with anything left of them, sorted."""
        described = {(application, name) for application, named in self._components_of.items() for name in named}
        known = ((state.application, state.component) for state in self.states.values() if is_component(state))
        return tuple(sorted({*described, *known}))

    def state_of(self, key: Key) -> ComponentState:
        """What is remembered of a component; a fresh one when nothing is."""
        return self.states.get(f"{key[0]}.{key[1]}") or ComponentState(key[0], key[1])

    def settings_of_node(self, node: str) -> tuple[Setting, ...]:
        """Mechanism settings that adaptation chose for a node as a whole, by mechanism and verb."""
        states = sorted(self._states.under(node).items())
        return tuple(setting for _, state in states if not is_component(state) for setting in state.settings)

    def revision_of(self, placement: Placement) -> Revision | None:
        """What a replica runs."""
        return self.revisions.get(f"{placement.application}.{placement.component}.{placement.revision}")

    def revisions_of(self, key: Key) -> tuple[Revision, ...]:
        """Of a component, oldest first."""
        return tuple(sorted(self._revisions.under(key).values(), key=lambda revision: revision.number))

    def rollouts_of(self, key: Key) -> tuple[Rollout, ...]:
        """Of a component, by name."""
        return tuple(rollout for _, rollout in sorted(self._rollouts.under(key).items()))

    def serving(self, model: str) -> tuple[Placement, ...]:
        """Replicas that run a model at whatever revision, by id."""
        return tuple(placement for _, placement in sorted(self._serving.under(model).items()))

    def model_of(self, placement: Placement) -> str:
        """The model that a replica serves; empty for one that serves none."""
        revision = self.revision_of(placement)
        task = revision.template.task if revision is not None else None
        return task.model if isinstance(task, InferenceTask) else ""

    def users_of_model(self, model: str) -> tuple[str, ...]:
        """Applications that refer to a model, sorted."""
        return tuple(sorted(self._users_of_model.under(model)))

    def users_of_secret(self, secret: str) -> tuple[str, ...]:
        """Applications that refer to a secret, sorted."""
        return tuple(sorted(self._users_of_secret.under(secret)))

    def cluster_of(self, node: Node) -> Cluster | None:
        """The cluster that the node names, or that names the node."""
        if node.spec.cluster is not None:
            return self.clusters.get(node.spec.cluster)
        naming = self._naming_clusters.under(node.metadata.name)
        return naming[min(naming)] if naming else None

    def sites_of(self, node: Node) -> tuple[str, ...]:
        """Failure domains: `datacenter:NAME`, `cluster:NAME`, `slice`."""
        cluster = self.cluster_of(node)
        datacenter = node.spec.datacenter or (cluster.spec.datacenter if cluster else None)
        cluster_name = node.spec.cluster or (cluster.metadata.name if cluster else None)
        named = (f"datacenter:{datacenter}" if datacenter else "", f"cluster:{cluster_name}" if cluster_name else "")
        return (*(site for site in named if site), "slice")

    def _index(self, value: RowValue) -> None:
        match value:
            case Placement():
                self._of_component.add((value.application, value.component), value.id, value)
                self._of_node.add(value.node_uid, value.id, value)
                if model := self.model_of(value):
                    self._serving.add(model, value.id, value)
            case Node() if value.status is not None and value.status.uid:
                self._name_of_uid[value.status.uid] = value.metadata.name
            case Revision():
                self._revisions.add((value.application, value.component), value.name, value)
            case ComponentState():
                self._states.add(value.application, value.name, value)
            case Rollout():
                self._rollouts.add((value.spec.application, value.spec.component), value.metadata.name, value)
            case Application():
                self._index_application(value)
            case Cluster():
                for node in value.spec.nodes:
                    self._naming_clusters.add(node, value.metadata.name, value)
            case _:
                pass

    def _unindex(self, value: RowValue) -> None:
        match value:
            case Placement():
                self._of_component.drop((value.application, value.component), value.id)
                self._of_node.drop(value.node_uid, value.id)
                self._serving.drop(self.model_of(value), value.id)
            case Node() if value.status is not None:
                self._name_of_uid.pop(value.status.uid, None)
            case Revision():
                self._revisions.drop((value.application, value.component), value.name)
            case ComponentState():
                self._states.drop(value.application, value.name)
            case Rollout():
                self._rollouts.drop((value.spec.application, value.spec.component), value.metadata.name)
            case Application():
                self._unindex_application(value)
            case Cluster():
                for node in value.spec.nodes:
                    self._naming_clusters.drop(node, value.metadata.name)
            case _:
                pass

    def _index_application(self, application: Application) -> None:
        name = application.metadata.name
        self._components_of[name] = {component.name: component for component in application.spec.components}
        for component in application.spec.components:
            if component.inference is not None:
                self._users_of_model.add(component.inference.model, name, name)
            for secret in component.secrets:
                self._users_of_secret.add(secret, name, name)

    def _unindex_application(self, application: Application) -> None:
        name = application.metadata.name
        self._components_of.pop(name, None)
        for component in application.spec.components:
            if component.inference is not None:
                self._users_of_model.drop(component.inference.model, name)
            for secret in component.secrets:
                self._users_of_secret.drop(secret, name)
