"""Lasting settings of mechanisms: applied while the desired document names them, undone when it no longer does. Pure.

`reconcile.py` keeps one `SettingsInForce` and calls `converge` after every event. Settings are applied once in each run
of the agent, because what they change may have been lost with it; the undo journal tells which of earlier runs remain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from ..descriptions.messages.desired import MechanismSetting
from .failures import Failures
from .reconcile_events import ApplySetting, SettingFinished, SettingKey, UndoSetting


def key_of(setting: MechanismSetting) -> SettingKey:
    """What the setting changes."""
    return SettingKey(setting.mechanism, setting.target, setting.verb)


@dataclass
class _Entry:
    failures: Failures
    wanted: MechanismSetting | None = None
    asked: MechanismSetting | None = None
    """Under way or done."""
    in_flight: bool = False
    is_set: bool = False
    """Applied, or perhaps applied: there is something to undo."""
    is_failed: bool = False


class SettingsInForce:
    """What is wanted, under way and in force, by key."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._entries: dict[SettingKey, _Entry] = {}

    def _entry(self, key: SettingKey) -> _Entry:
        return self._entries.setdefault(key, _Entry(Failures(self._rng)))

    def remember(self, keys: Iterable[SettingKey]) -> None:
        """These were left in force by an earlier run."""
        for key in keys:
            self._entry(key).is_set = True

    def want(self, settings: Iterable[MechanismSetting]) -> None:
        """Take over what the document says; the last of a key counts."""
        wanted = {key_of(setting): setting for setting in settings}
        for key in self._entries.keys() | wanted.keys():
            entry = self._entry(key)
            if entry.wanted != wanted.get(key):
                entry.wanted = wanted.get(key)
                entry.failures = Failures(self._rng)

    def finished(self, event: SettingFinished, now_s: float) -> None:
        """Take over what came of an effect."""
        entry = self._entry(event.key)
        entry.in_flight = False
        entry.is_failed = event.outcome != "done"
        if not entry.is_failed:
            entry.is_set = not event.undone
            return
        entry.asked = None
        entry.failures.add(now_s, event.message, 0.0, refused=event.outcome == "refused")

    def converge(self, cause: str, now_s: float) -> Iterator[ApplySetting | UndoSetting]:
        """What to begin now, each once."""
        for key in sorted(self._entries, key=lambda key: (key.mechanism, key.target, key.verb)):
            entry = self._entries[key]
            if entry.in_flight or now_s < entry.failures.not_before_s:
                continue
            if entry.wanted is not None and entry.asked != entry.wanted:
                entry.asked, entry.in_flight, entry.is_set = entry.wanted, True, True
                command_id = f"{cause}/{key.mechanism}/{key.target}/{key.verb}"
                yield ApplySetting(cause, key, entry.wanted, command_id)
            elif entry.wanted is None and entry.is_set:
                entry.asked, entry.in_flight = None, True
                yield UndoSetting(cause, key)
            elif entry.wanted is None:
                del self._entries[key]

    def wake_s(self, now_s: float) -> float | None:
        """When a failed one is tried again."""
        times = [entry.failures.not_before_s for entry in self._entries.values() if not entry.in_flight]
        return min((time_s for time_s in times if time_s > now_s), default=None)

    def problems(self) -> tuple[str, ...]:
        """Settings that could not be applied or undone, for a condition of the node."""
        return tuple(
            f"{key.mechanism} {key.verb} {key.target}: {entry.failures.message}"
            for key, entry in sorted(self._entries.items(), key=lambda item: str(item[0]))
            if entry.is_failed
        )
