"""Whether the node can run this kind of component: the mechanism, the inference plugin, and the model behind it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from ....descriptions.mechanism import Options
from ....descriptions.messages.reported import MechanismReport
from ....policies.node_table import BoolArray
from ..constraint import Constraint, Constraints, Question, everywhere
from ..explanation import Failure
from ..node_row import NodeRow

PLUGIN_OF_FORMAT = {"onnx": "onnx", "tflite": "litert", "python": "python"}
"""Inference plugin that serves a model format unless the component names another."""

Runs = Literal["inference", "process", "container"]

_REFUSED = {
    "container": "no mechanism runs containers here; `process` and `inference` components are possible",
}


@dataclass(frozen=True)
class Runnable(Constraint):
    """The node offers the mechanism that runs the component, with the inference plugin where one is needed."""

    runs: Runs
    plugin: str = ""
    name = "mechanism"

    @property
    def key(self) -> Hashable:
        return ("mechanism", self.runs, self.plugin)

    def mask(self, question: Question) -> BoolArray:
        answers: dict[tuple[MechanismReport, ...], bool] = {}
        mask = np.zeros(len(question.table.rows), dtype=np.bool_)
        for at, row in enumerate(question.table.rows):
            reports = row.mechanisms
            if reports not in answers:
                answers[reports] = self._missing(row) is None
            mask[at] = answers[reports]
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        missing = self._missing(question.table.rows[row])
        return None if missing is None else Failure(self.name, *missing)

    def _missing(self, row: NodeRow) -> tuple[str, str] | None:
        """Reason and change, or None."""
        report = next((one for one in row.mechanisms if one.name == self.runs), None)
        if report is None:
            refused = _REFUSED.get(self.runs, f"does not offer the mechanism {self.runs}")
            return refused, f"enable the mechanism {self.runs} on it"
        options = _options(report)
        if not options.verbs and options.reason:
            return f"mechanism {self.runs}: {options.reason}", ""
        if self.plugin and options.runs and self.plugin not in options.runs:
            has = ", ".join(sorted(options.runs))
            return f"inference plugin {self.plugin} is not on it, {has} is", f"enable the plugin {self.plugin} on it"
        return None


@dataclass(frozen=True)
class Described(Constraint):
    """The model that the component serves must be described."""

    model: str
    name = "model"

    def mask(self, question: Question) -> BoolArray:
        return everywhere(question, question.model is not None)

    def failure(self, question: Question, row: int) -> Failure | None:
        if question.model is not None:
            return None
        return Failure(self.name, f"the Model {self.model} is not described", f"apply the Model {self.model}")


def mechanism(question: Question, into: Constraints) -> None:
    """By what the component runs as."""
    inference = question.component.inference
    if inference is None:
        into.static.append(_PROCESS if question.component.process else _CONTAINER)
        return
    if question.model is None:
        into.narrowing.append(Described(inference.model))
    by_format = PLUGIN_OF_FORMAT[question.model.spec.format] if question.model else ""
    into.static.append(Runnable("inference", inference.plugin or by_format))


_PROCESS, _CONTAINER = Runnable("process"), Runnable("container")


def _options(report: MechanismReport) -> Options:
    try:
        return msgspec.json.decode(report.options, type=Options)
    except msgspec.DecodeError as error:
        return Options(reason=f"its report can't be read: {error}")
