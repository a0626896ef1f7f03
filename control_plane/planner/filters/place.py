"""Where the description lets replicas stand: layers, node names and node labels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ....descriptions.kinds.meta import LabelOperator, LabelRequirement
from ....descriptions.labels import matches
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
    requirement: LabelRequirement

    @property
    def key(self) -> Hashable:
        one = self.requirement
        return ("label", one.key, one.operator, one.values)

    def mask(self, question: Question) -> BoolArray:
        column = question.table.nodes.label(self.requirement.key)
        passing = [self._accepts(value) for value in (*column.values, None)]
        return np.array(passing, dtype=np.bool_)[column.codes]

    def failure(self, question: Question, row: int) -> Failure | None:
        key = self.requirement.key
        value = question.table.nodes.facts[row].labels.get(key)
        if self._accepts(value):
            return None
        has = f"has no label {key}" if value is None else f"label {key}={value}"
        return Failure(self.name, f"{has}, needs {self._wanted()}", self._change(value))

    def _accepts(self, value: str | None) -> bool:
        return matches((self.requirement,), {} if value is None else {self.requirement.key: value})

    def _wanted(self) -> str:
        values = self.requirement.values
        words = {
            LabelOperator.IN: _one_of(values),
            LabelOperator.NOT_IN: f"none of {', '.join(values)}",
            LabelOperator.EXISTS: "any value",
            LabelOperator.DOES_NOT_EXIST: "none",
            LabelOperator.GT: f"more than {', '.join(values)}",
            LabelOperator.LT: f"less than {', '.join(values)}",
        }
        return words[self.requirement.operator]

    def _change(self, value: str | None) -> str:
        key = self.requirement.key
        match self.requirement.operator:
            case LabelOperator.IN if self.requirement.values:
                return f"label it {key}={self.requirement.values[0]}"
            case LabelOperator.EXISTS:
                return f"give it a label {key}"
            case LabelOperator.NOT_IN | LabelOperator.DOES_NOT_EXIST:
                return f"remove its label {key}={value}"
            case _:
                return f"give label {key} {self._wanted()}"


def place(question: Question, into: Constraints) -> None:
    """What `placement` says of the node itself."""
    placement = question.component.placement
    if placement.layers:
        into.static.append(Layers(tuple([layer.value for layer in placement.layers])))
    if placement.nodes:
        into.static.append(Names(placement.nodes))
    for requirement in placement.labels:
        into.static.append(Label(f"label {requirement.key}", requirement))


def _one_of(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return shown if len(names) == 1 else f"one of {shown}"
