"""Settings of mechanisms with a way back: the inverse is on disk before anything changes, and applied when it leaves.

`run.py` calls it for `ApplySetting` and `UndoSetting` of the reconcile core, and at the start for what a crash cut off
in the middle. Knobs of the hardware outlive the agent, so the journal does as well.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import msgspec

from ..descriptions.errors import DescriptionError, ShoalError, TransportError
from ..descriptions.mechanism import MechanismCommand, Outcome
from .database import JournalEntry
from .disk import Disk
from .reconcile_events import ApplySetting, SettingFinished, SettingKey, SettingsRemembered
from .runners import Runners

logger = logging.getLogger(__name__)


@dataclass
class Journal:
    """Applies and undoes settings."""

    disk: Disk
    runners: Runners

    async def recover(self, cause: str) -> SettingsRemembered:
        """Undo what was cut off in the middle; tell which settings are in force still."""
        entries = await self.disk.run(self.disk.database.journal)
        for entry in entries:
            if entry.state == "acting":
                logger.warning("setting=%s was cut off, restored", entry.key)
                await self.undo(cause, entry.key)
        return SettingsRemembered(cause, tuple(entry.key for entry in entries if entry.state == "done"))

    async def apply(self, effect: ApplySetting) -> SettingFinished:
        """Journal the inverse, apply, note that it is done."""
        key, database = effect.key, self.disk.database
        command = MechanismCommand(effect.command_id, key.verb, key.target, effect.setting.arguments)
        try:
            known = await self._entry(key)
            inverse = await self.runners.call(key.mechanism, lambda one: one.inverse(command))
            await self.disk.run(partial(database.journal_acting, key, inverse))
            outcome = await self.runners.apply(key.mechanism, command)
            if outcome.state in ("done", "running"):
                await self.disk.run(partial(database.journal_done, key))
            elif known is None:
                await self._restore(effect.cause, key, inverse)
        except ShoalError as error:
            outcome = _outcome_of(command, error)
        return _finished(effect.cause, key, outcome, undone=False)

    async def undo(self, cause: str, key: SettingKey) -> SettingFinished:
        """Apply the inverse and strike the entry."""
        command = MechanismCommand(f"{cause}/undo", key.verb, key.target)
        try:
            entry = await self._entry(key)
            outcome = Outcome(command.id, "done")
            if entry is not None:
                outcome = await self._restore(cause, key, entry.inverse)
        except ShoalError as error:
            outcome = _outcome_of(command, error)
        return _finished(cause, key, outcome, undone=True)

    async def _restore(self, cause: str, key: SettingKey, inverse: MechanismCommand | None) -> Outcome:
        command_id = f"{cause}/{key.mechanism}/{key.target}/{key.verb}/undo"
        outcome = Outcome(command_id, "done")
        if inverse is not None:
            outcome = await self.runners.apply(key.mechanism, msgspec.structs.replace(inverse, id=command_id))
        if outcome.state in ("done", "refused"):  # what is refused now will never be restored otherwise
            await self.disk.run(partial(self.disk.database.journal_strike, key))
        return outcome

    async def _entry(self, key: SettingKey) -> JournalEntry | None:
        entries = await self.disk.run(self.disk.database.journal)
        return next((entry for entry in entries if entry.key == key), None)


def _outcome_of(command: MechanismCommand, error: ShoalError) -> Outcome:
    is_lasting = not isinstance(error, TransportError | DescriptionError)
    return Outcome(command.id, "refused" if is_lasting else "failed", str(error))


def _finished(cause: str, key: SettingKey, outcome: Outcome, *, undone: bool) -> SettingFinished:
    state = "done" if outcome.state == "running" else outcome.state
    return SettingFinished(cause, key, undone, state, outcome.message)
