"""Where the description lets replicas stand: layers, node names and node labels.

Labels are compared as Kubernetes compares node affinity:
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#operators
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ....descriptions.kinds.meta import LabelOperator, LabelRequirement
from ....policies.node_table import BoolArray
from ..constraint import Constraint, Constraints, Question
from ..explanation import Failure


@dataclass(frozen=True)
class Layers(Constraint):
    """Only nodes of the given layers."""

    layers: tuple[str, ...]
    name = "layers"

    @property
    def key(self) -> Hashable:
        return ("layers", self.layers)

    def mask(self, question: Question) -> BoolArray:
        nodes = question.table.nodes
        return np.isin(nodes.layer_code, [nodes.layers.index(layer) for layer in self.layers])

    def failure(self, question: Question, row: int) -> Failure | None:
        layer = question.table.nodes.facts[row].layer
        if layer in self.layers:
            return None
        return Failure(self.name, f"is in layer {layer}, needs {_one_of(self.layers)}", f"allow layer {layer}")


@dataclass(frozen=True)
class Names(Constraint):
    """Only the nodes that the description lists."""

    nodes: tuple[str, ...]
    name = "nodes"

    @property
    def key(self) -> Hashable:
        return ("nodes", self.nodes)

    def mask(self, question: Question) -> BoolArray:
        rows = question.table.nodes.row_of
        mask = np.zeros(len(question.table.nodes), dtype=np.bool_)
        mask[[rows[node] for node in self.nodes if node in rows]] = True
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        if (node := question.table.nodes.names[row]) in self.nodes:
            return None
        return Failure(self.name, f"is not among the nodes {_one_of(self.nodes)}", f"add {node} to placement.nodes")


@dataclass(frozen=True)
class Label(Constraint):
    """One requirement on one label."""

    name: str
    """One constraint a label, so that counts tell them apart."""
    label: str
    operator: LabelOperator
    values: tuple[str, ...]

    @property
    def key(self) -> Hashable:
        return ("label", self.label, self.operator, self.values)

    def mask(self, question: Question) -> BoolArray:
        column = question.table.nodes.label(self.label)
        passing = [self._accepts(value) for value in column.values]
        return np.array([*passing, self._accepts(None)], dtype=np.bool_)[column.codes]

    def failure(self, question: Question, row: int) -> Failure | None:
        value = question.table.nodes.facts[row].labels.get(self.label)
        if self._accepts(value):
            return None
        has = f"has no label {self.label}" if value is None else f"label {self.label}={value}"
        return Failure(self.name, f"{has}, needs {self._wanted()}", self._change(value))

    def _accepts(self, value: str | None) -> bool:
        match self.operator:
            case LabelOperator.IN:
                return value in self.values
            case LabelOperator.NOT_IN:
                return value not in self.values
            case LabelOperator.EXISTS:
                return value is not None
            case LabelOperator.DOES_NOT_EXIST:
                return value is None
        number, bound = _number(value), _number(self.values[0] if self.values else None)
        if number is None or bound is None:
            return False
        return number > bound if self.operator is LabelOperator.GT else number < bound

    def _wanted(self) -> str:
        words = {
            LabelOperator.IN: _one_of(self.values),
            LabelOperator.NOT_IN: f"none of {', '.join(self.values)}",
            LabelOperator.EXISTS: "any value",
            LabelOperator.DOES_NOT_EXIST: "none",
            LabelOperator.GT: f"more than {', '.join(self.values)}",
            LabelOperator.LT: f"less than {', '.join(self.values)}",
        }
        return words[self.operator]

    def _change(self, value: str | None) -> str:
        match self.operator:
            case LabelOperator.IN if self.values:
                return f"label it {self.label}={self.values[0]}"
            case LabelOperator.EXISTS:
                return f"give it a label {self.label}"
            case LabelOperator.NOT_IN | LabelOperator.DOES_NOT_EXIST:
                return f"remove its label {self.label}={value}"
            case _:
                return f"give label {self.label} {self._wanted()}"


def place(question: Question, into: Constraints) -> None:
    """What `placement` says of the node itself."""
    placement = question.component.placement
    if placement.layers:
        into.static.append(Layers(tuple([layer.value for layer in placement.layers])))
    if placement.nodes:
        into.static.append(Names(placement.nodes))
    for requirement in placement.labels:
        into.static.append(_label(requirement))


def _label(requirement: LabelRequirement) -> Label:
    return Label(f"label {requirement.key}", requirement.key, requirement.operator, requirement.values)


def _one_of(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return shown if len(names) == 1 else f"one of {shown}"


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number == number else None
