"""Tries one mechanism against its contract: what it offers, shows, does, undoes and refuses.

`check_child.py` calls it within the checking process. A check gives its fault in a sentence, or none; whatever the
plugin raises is a fault. Everything that was changed is changed back, as far as the mechanism can.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import msgspec

from ..descriptions.errors import PluginError, RefusedError
from ..descriptions.mechanism import MechanismCommand, Options, Outcome, Status, VerbOption
from ..descriptions.messages.codec import SIZE_MAX, Message, decode, encode
from .arguments import Json, values
from .checks import Finding, Line
from .mechanism import Mechanism
from .samples import fault_of, fitting, wrong

VERB = re.compile(r"[a-z][a-zA-Z0-9.-]{0,62}")
"""What `permittedActions` can name."""
UNKNOWN_VERB = "noSuchVerb"
STATES = ("done", "running", "failed", "refused")

Arguments = dict[str, Json]
T = TypeVar("T", bound=Message)


@dataclass
class Examiner:
    """Makes checks and says what came of each."""

    say: Callable[[Line], None]
    prefix: str = ""
    count: int = 0
    """Commands given."""

    def check(self, name: str, fault: Callable[[], str]) -> bool:
        """Whether it passed."""
        name = self.prefix + name
        self.say(Line(begins=name))
        message = _told(fault)
        self.say(Line(finding=Finding(name, not message, message)))
        return not message

    def note(self, name: str, message: str) -> None:
        """Something that can't be checked, and why."""
        self.say(Line(finding=Finding(self.prefix + name, True, message)))

    def command(self, verb: str, target: str, arguments: Arguments) -> MechanismCommand:
        """A new one."""
        self.count += 1
        return MechanismCommand(f"check-{self.count}", verb, target, values(**arguments))


def try_mechanism(examiner: Examiner, mechanism: Mechanism) -> None:
    """All checks, in the order in which an author would repair."""
    is_honest = examiner.check("options() is honest", lambda: _options_fault(mechanism))
    is_shown = examiner.check("status() is readable and looking changes nothing", lambda: _status_fault(mechanism))
    if not (is_honest and is_shown):
        return
    offered = mechanism.options()
    if not offered.verbs:
        examiner.note("verbs", f"none is offered here, so none was tried: {offered.reason}")
    for option in offered.verbs:
        VerbTrial(examiner, mechanism, option).run()
    examiner.check("refuses an unknown verb", lambda: _unknown_fault(examiner, mechanism))


def _options_fault(mechanism: Mechanism) -> str:
    offered = _of_type(mechanism.options(), Options, "options()")
    if not offered.verbs and not offered.reason:
        return "offers no verb and gives no reason"
    names = [option.verb for option in offered.verbs]
    for option in offered.verbs:
        if fault := _verb_fault(option):
            return f"{option.verb!r} {fault}"
    if len(set(names)) < len(names):
        return "offers a verb twice"
    return "" if mechanism.options() == offered else "asked twice, it offers something else"


def _verb_fault(option: VerbOption) -> str:
    if not VERB.fullmatch(option.verb):
        return "is no name that permittedActions can hold: letters, digits, dots and dashes, a small letter first"
    if not option.doc.strip():
        return "says nothing about itself (doc)"
    for name, schema in option.arguments.items():
        if fault := fault_of(msgspec.json.decode(schema)):
            return f"argument {name!r} {fault}"
    return ""


def _status_fault(mechanism: Mechanism) -> str:
    before = _status(mechanism)
    targets = [one.target for one in before.targets]
    if len(set(targets)) < len(targets):
        return "names a target twice"
    return "" if _status(mechanism) == before else "asked twice, it shows something else"


def _unknown_fault(examiner: Examiner, mechanism: Mechanism) -> str:
    before = _status(mechanism)
    return _refusal_fault(mechanism, examiner.command(UNKNOWN_VERB, "", {}), before)


@dataclass
class VerbTrial:
    """One verb of one mechanism."""

    examiner: Examiner
    mechanism: Mechanism
    option: VerbOption
    target: str = ""
    arguments: list[Arguments] = field(default_factory=list)
    """Sets of values that should work."""
    back: MechanismCommand | None = None
    """What undoes the very first command."""

    def run(self) -> None:
        """Apply, look, repeat, undo, refuse."""
        schemas = {name: msgspec.json.decode(schema) for name, schema in self.option.arguments.items()}
        samples = {name: fitting(schema) for name, schema in schemas.items()}
        rounds = max((len(found) for found in samples.values()), default=1)
        self.arguments = [
            {name: found[min(index, len(found) - 1)] for name, found in samples.items()} for index in range(rounds)
        ]
        start = _status(self.mechanism)
        if self._check("applies", self._applies) and self._check("the same again does no harm", self._repeats):
            if self.arguments[0]:
                self._check("status() shows what is set", self._shows)
                self._check("undo restores", lambda: self._undoes(start))
            self._check("refuses bad arguments", self._refuses)
        elif self.back is not None:
            with contextlib.suppress(Exception):  # it was told already what is wrong with it
                self.mechanism.apply(self.back)

    def _check(self, name: str, fault: Callable[[], str]) -> bool:
        return self.examiner.check(f"{self.option.verb}: {name}", fault)

    def _command(self, arguments: Arguments) -> MechanismCommand:
        return self.examiner.command(self.option.verb, self.target, arguments)

    def _undo_of(self, command: MechanismCommand) -> MechanismCommand | None:
        try:
            found: object = self.mechanism.inverse(command)
        except (Exception, SystemExit):  # noqa: BLE001 - told by "undo restores", which asks again
            return None
        return found if isinstance(found, MechanismCommand) else None

    def _applies(self) -> str:
        """On the node or, where that is refused, on a target that status() names."""
        for target in ("", *(one.target for one in _status(self.mechanism).targets if one.target)):
            self.target = target
            command = self._command(self.arguments[0])
            self.back = self._undo_of(command)
            outcome = _outcome(self.mechanism, command)
            if outcome.state != "refused":
                break
        for arguments in self.arguments:
            outcome = _outcome(self.mechanism, self._command(arguments))
            if outcome.state not in ("done", "running"):
                return f"{_shown(arguments)} is {outcome.state}: {outcome.message or 'no reason given'}"
        return ""

    def _shows(self) -> str:
        for arguments in self.arguments:
            _outcome(self.mechanism, self._command(arguments))
            shown = self._values()
            for name, value in arguments.items():
                if value is None:
                    continue  # gives a default back, which only the mechanism knows
                if name not in shown:
                    return f"there is no {name!r} of {self.target or 'the node'} in it"
                if shown[name] != value:
                    return f"{name} was set to {value!r} and is shown as {shown[name]!r}"
        return ""

    def _values(self) -> dict[str, object]:
        targets = {one.target: one.values for one in _status(self.mechanism).targets}
        return {name: msgspec.json.decode(raw) for name, raw in targets.get(self.target, {}).items()}

    def _repeats(self) -> str:
        command = self._command(self.arguments[0])
        _outcome(self.mechanism, command)
        once = _status(self.mechanism)
        again = _outcome(self.mechanism, command)
        if again.state not in ("done", "running"):
            return f"it is {again.state} the second time: {again.message}"
        changed = _status(self.mechanism) != once and bool(self.option.arguments)
        return "status() shows something else after the second time" if changed else ""

    def _undoes(self, start: Status) -> str:
        """From the first sample to each other and back, then back to where all began."""
        first = self._command(self.arguments[0])
        _outcome(self.mechanism, first)
        before = _status(self.mechanism)
        for arguments in self.arguments[1:]:
            if fault := self._undoes_one(self._command(arguments), before):
                return fault
        if self.back is not None:
            _outcome(self.mechanism, self.back)
        if _status(self.mechanism) == start:
            return ""
        told = "inverse() gives nothing" if self.back is None else "its inverse() was applied"
        return f"{told}, and status() is not what it was before the first command"

    def _undoes_one(self, command: MechanismCommand, before: Status) -> str:
        inverse = cast("object", self.mechanism.inverse(command))
        if _status(self.mechanism) != before:
            return "asking for inverse() changes something"
        _outcome(self.mechanism, command)
        if inverse is None:
            is_same = _status(self.mechanism) == before
            return (
                "" if is_same else f"inverse() gives nothing, though {_shown(self._given(command))} changes something"
            )
        undone = _outcome(self.mechanism, _of_type(inverse, MechanismCommand, "inverse()"))
        if undone.state not in ("done", "running"):
            return f"the command of inverse() is {undone.state}: {undone.message}"
        if _status(self.mechanism) != before:
            return f"after {_shown(self._given(command))} and its inverse(), status() is not what it was"
        return ""

    def _given(self, command: MechanismCommand) -> Arguments:
        return {name: msgspec.json.decode(raw) for name, raw in command.arguments.items()}

    def _refuses(self) -> str:
        before = _status(self.mechanism)
        for why, arguments in self._bad():
            command = self._command(arguments)
            if fault := _told(partial(_refusal_fault, self.mechanism, command, before)):
                return f"{why}: {fault}"
        return ""

    def _bad(self) -> Iterator[tuple[str, Arguments]]:
        good = self.arguments[0]
        for name, raw in self.option.arguments.items():
            schema = msgspec.json.decode(raw)
            if "default" not in schema:
                yield f"without {name}", {other: value for other, value in good.items() if other != name}
            for one in wrong(schema):
                yield f"{name} with {one.why}", {**good, name: one.value}


def _told(fault: Callable[[], str]) -> str:
    """The fault, or what was raised."""
    try:
        return fault()
    except PluginError as error:
        return error.message
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the border to authors' code
        return f"raises {type(error).__name__}: {error}"


def _refusal_fault(mechanism: Mechanism, command: MechanismCommand, before: Status) -> str:
    outcome = _outcome(mechanism, command)
    if outcome.state != "refused":
        return f"it is {outcome.state}, not refused"
    if not outcome.message.strip():
        return "it is refused without a reason"
    return "" if _status(mechanism) == before else "it is refused, and something changed all the same"


def _outcome(mechanism: Mechanism, command: MechanismCommand) -> Outcome:
    """What came of a command; a `RefusedError` is a refusal."""
    try:
        outcome = _of_type(mechanism.apply(command), Outcome, "apply()")
    except RefusedError as error:
        return Outcome(command.id, "refused", str(error))
    if outcome.id != command.id:
        raise PluginError("", f"apply() answers for command {outcome.id!r} in place of {command.id!r}")
    if outcome.state not in STATES:
        raise PluginError("", f"apply() gives the state {outcome.state!r}; expected one of {', '.join(STATES)}")
    return outcome


def _status(mechanism: Mechanism) -> Status:
    return _of_type(mechanism.status(), Status, "status()")


def _of_type(value: object, wanted: type[T], call: str) -> T:
    """The value as it would arrive at the control plane."""
    if not isinstance(value, wanted):
        raise PluginError("", f"{call} gives {type(value).__name__}, not {wanted.__name__}")
    sent = encode(value)
    if len(sent) > SIZE_MAX:
        raise PluginError("", f"{call} gives {len(sent)} bytes, over the limit of {SIZE_MAX}")
    return decode(wanted, sent)


def _shown(arguments: Arguments) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "it"
