"""Asks a policy that runs in a process of its own: started when first needed, told what changed, asked once a
component.

One that doesn't answer in time, dies or answers nonsense is a `PluginError`; its process is started again with the
next question. A changed file is loaded into the running process; until that works, what was loaded before goes on
deciding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from ...descriptions.errors import DescriptionError, PluginError
from ...descriptions.kinds import Application
from ...descriptions.kinds.application import Component
from ...policies.actions import Action, Move, Scale, Set
from ...policies.asking import Rating, check_answers, check_scores
from ...policies.frames import (
    Adapt,
    Adapted,
    Answer,
    Bind,
    Bound,
    Load,
    Loaded,
    Rate,
    Rated,
    RatedRow,
    RateRow,
    SetRow,
    Told,
    Wrong,
)
from ...policies.node_table import BoolArray, FloatArray
from ...policies.policy import Rejection, Rescore
from ...policies.reading import MetricUse
from ...policies.registry import PolicySettings, Source, read_source
from ...policies.view import View
from .policy_process import PolicyProcess
from .telling import Telling, moment_of

LOAD_WITHIN_S = 20.0
"""Interpreter, imports and the plugin's own module."""

T = TypeVar("T", bound=Answer)


class RemoteHost:
    """One plugin and its process."""

    def __init__(self, source: Source, settings: PolicySettings) -> None:
        self.source = source
        self._settings = settings
        self._text: bytes | None = None
        self._stamp: tuple[int, int] | None = None
        self._process: PolicyProcess | None = None
        self._telling: Telling | None = None
        self._loaded: Loaded | None = None
        self._bindings: dict[str, int] = {}
        self._broken = ""

    @property
    def loaded(self) -> Loaded:
        """What the plugin is; starts its process where there is none yet."""
        self._running()
        assert self._loaded is not None, "a running process has loaded its plugin"
        return self._loaded

    def bind(self, options: str) -> None:
        """Check options (JSON): `DescriptionError` where they don't fit."""
        self._binding(options)

    def rate(self, options: str, component: Component, view: View, asked: BoolArray, *, reasons: bool) -> Rated:
        """One round trip for all nodes."""
        process = self._told(view)
        question = Rate(self._binding(options), moment_of(view), component.name, asked.tobytes(), reasons)
        return self._answer(process, question, Rated, len(view.nodes))

    def rate_row(self, options: str, component: Component, view: View, row: int) -> RatedRow:
        """One round trip for one node."""
        process = self._told(view)
        return self._answer(process, RateRow(self._binding(options), moment_of(view), component.name, row), RatedRow)

    def adapt(self, options: str, view: View) -> Adapted:
        """One round trip for an application."""
        process = self._told(view, reports=True)
        return self._answer(process, Adapt(self._binding(options), moment_of(view)), Adapted, len(view.nodes))

    def reload(self) -> bool:
        """Load a changed file; whether there was one. `PluginError` where it can't be loaded, and the older one
        stays.
        """
        if self.source.kind != "file" or not self._has_changed():
            return False
        text = read_source(Path(self.source.target))
        if self._text is not None and hashlib.sha256(text).digest() == hashlib.sha256(self._text).digest():
            return False
        if self._process is None or self._loaded is None:
            self._text, self._broken = text, ""
            return True
        message = Load(self.source.name, self.source.target, text)
        self._loaded = self._answer(self._process, message, Loaded, deadline_s=LOAD_WITHIN_S)
        self._text, self._broken = text, ""
        self._bindings.clear()
        return True

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None
        if self._telling is not None:
            self._telling.close()
            self._telling = None
        self._bindings.clear()

    def _told(self, view: View, *, reports: bool = False) -> PolicyProcess:
        process = self._running()
        assert self._telling is not None, "made with the process"
        try:
            self._telling.bring_up(view, self.loaded.metrics, reports=reports)
        except PluginError:
            self.close()
            raise
        return process

    def _binding(self, options: str) -> int:
        process = self._running()
        binding = self._bindings.get(options)
        if binding is None:
            binding = len(self._bindings)
            self._answer(process, Bind(binding, options), Bound)
            self._bindings[options] = binding
        return binding

    def _running(self) -> PolicyProcess:
        if self._process is not None:
            return self._process
        if self._broken:
            raise PluginError(self.source.name, self._broken)
        if self.source.kind == "file" and self._text is None:
            self._has_changed()
            self._text = read_source(Path(self.source.target))
        process = PolicyProcess(self.source.name, self._settings.memory, self._settings.deadline)
        self._process, self._telling = process, Telling(process, self._settings.deadline)
        message = Load(self.source.name, self.source.target, self._text)
        try:
            self._loaded = self._answer(process, message, Loaded, deadline_s=LOAD_WITHIN_S)
        except PluginError as error:
            self._broken = error.message
            self.close()
            raise
        return process

    def _has_changed(self) -> bool:
        try:
            status = Path(self.source.target).stat()
        except OSError:
            return False
        stamp = (status.st_mtime_ns, status.st_size)
        changed, self._stamp = stamp != self._stamp, stamp
        return changed

    def _answer(
        self, process: PolicyProcess, question: Told, kind: type[T], nodes: int = 0, deadline_s: float | None = None
    ) -> T:
        try:
            answer = process.ask(question, nodes, deadline_s or self._settings.deadline)
        except PluginError:
            self.close()
            raise
        if isinstance(answer, Wrong):
            raise _error_of(self.source.name, answer)
        if not isinstance(answer, kind):
            self.close()
            raise PluginError(self.source.name, f"answered {type(answer).__name__}, not {kind.__name__}")
        return answer


@dataclass(frozen=True, eq=False)
class Remote:
    """A plugin with options; it satisfies `Decider`."""

    host: RemoteHost
    name: str
    weight: float
    options: str
    version: str
    rescore: Rescore
    is_placing: bool
    is_scoring: bool
    is_adapting: bool
    metrics: tuple[MetricUse, ...]

    @staticmethod
    def bound(host: RemoteHost, weight: float, options: str) -> Remote:
        """Check the options against the plugin: `DescriptionError` where they don't fit."""
        loaded = host.loaded
        host.bind(options)
        return Remote(
            host,
            host.source.name,
            weight,
            options,
            loaded.version,
            loaded.rescore,
            loaded.is_placing,
            loaded.is_scoring,
            loaded.is_adapting,
            loaded.metrics,
        )

    def rate(self, component: Component, view: View, asked: BoolArray, *, reasons: bool = False) -> Rating:
        """Ask, and check the answer as though it came from a stranger."""
        rated = self.host.rate(self.options, component, view, asked, reasons=reasons)
        raw = None if rated.scores is None else check_scores(self.name, self._scores(rated.scores), view.nodes)
        if self.is_scoring != (raw is not None):
            raise PluginError(self.name, "answered without scores" if raw is None else "answered scores unasked")
        refused = None if rated.refused is None else self._refused(rated.refused, view) & asked
        told = {row: Rejection(reason, change) for row, reason, change in rated.reasons}
        return Rating(raw, refused, told)

    def rate_row(self, component: Component, view: View, row: int) -> tuple[float, bool]:
        """Ask for one row again."""
        answer = self.host.rate_row(self.options, component, view, row)
        return answer.score, answer.is_refused

    def adapt(self, application: Application, view: View) -> Sequence[Action]:
        """Ask what to do about an application."""
        answer = self.host.adapt(self.options, view)
        actions: list[Action] = []
        lists: dict[str, Iterator[Action]] = {
            "m": iter(answer.moves),
            "s": iter(answer.scales),
            "t": iter(self._set(row) for row in answer.sets),
        }
        for letter in answer.order:
            action = next(lists[letter], None) if letter in lists else None
            if action is None:
                raise PluginError(self.name, "answered a list of actions that does not add up")
            actions.append(action)
        check_answers(self.name, "plan", actions, (Move, Scale, Set))
        return tuple(actions)

    def _set(self, row: SetRow) -> Set:
        try:
            arguments = msgspec.json.decode(row.arguments, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise PluginError(self.name, f"answered arguments that are no JSON object: {error}") from None
        return Set(row.mechanism, row.verb, row.node, row.target, arguments, row.application, row.component, row.reason)

    def _scores(self, data: bytes) -> FloatArray:
        if len(data) % 8:
            raise PluginError(self.name, f"answered {len(data)} bytes of scores")
        return np.frombuffer(data, dtype=np.float64)

    def _refused(self, data: bytes, view: View) -> BoolArray:
        if len(data) != len(view.nodes):
            raise PluginError(self.name, f"answered {len(data)} refusals for {len(view.nodes)} nodes")
        refused: BoolArray = np.frombuffer(data, dtype=np.uint8) != 0
        return refused


def _error_of(policy: str, wrong: Wrong) -> DescriptionError | PluginError:
    if wrong.kind == "plugin":
        return PluginError(policy, wrong.message)
    return DescriptionError(wrong.message, path=wrong.path, expected=wrong.expected, nearest=wrong.nearest)
