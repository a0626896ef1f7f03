"""The kinds that people write: frozen Pydantic models, the one representation of each.

`KINDS` maps a `kind` to its model; YAML loading, the API, JSON Schema and CRDs all start there.
"""

from __future__ import annotations

from .application import Application
from .inventory import Cluster, Datacenter
from .model import Model
from .node import Node
from .plugin import Mechanism, Policy
from .rollout import Rollout
from .secret import Secret
from .slice import Slice

Kind = Slice | Datacenter | Cluster | Node | Application | Model | Policy | Mechanism | Secret | Rollout

KINDS: dict[str, type[Kind]] = {
    model.__name__: model
    for model in (Slice, Datacenter, Cluster, Node, Application, Model, Policy, Mechanism, Secret, Rollout)
}

__all__ = [
    "KINDS",
    "Application",
    "Cluster",
    "Datacenter",
    "Kind",
    "Mechanism",
    "Model",
    "Node",
    "Policy",
    "Rollout",
    "Secret",
    "Slice",
]
