"""Small words for authors of mechanisms: offer a verb, read a command's arguments, answer.

def options(self) -> Options:
    return Options((verb("setSpeed", "Turn the fan.", speed={"type": "integer", "minimum": 0, "maximum": 5}),))

def apply(self, command: MechanismCommand) -> Outcome:
    Path(self.path).write_text(str(argument(command, "speed", int)))
    return done(command)
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..descriptions.errors import RefusedError
from ..descriptions.mechanism import MechanismCommand, Outcome, TargetStatus, VerbOption

T = TypeVar("T")

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def verb(name: str, doc: str, *, disruptive: bool = False, **arguments: dict[str, Json]) -> VerbOption:
    """An offer: each further keyword is an argument and its JSON Schema."""
    return VerbOption(name, doc, values(**arguments), disruptive)


def values(**found: Json) -> dict[str, msgspec.Raw]:
    """Plain values as messages carry them."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in found.items()}


def argument(command: MechanismCommand, name: str, kind: type[T]) -> T:
    """One argument of this type; `RefusedError` when it is missing or something else."""
    raw = command.arguments.get(name)
    if raw is None:
        raise RefusedError(f"{command.verb} needs the argument {name!r}")
    try:
        return msgspec.json.decode(bytes(raw), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusedError(f"{command.verb}: argument {name!r}: {error}") from None


def status(target: str = "", **found: Json) -> TargetStatus:
    """What is set for one target."""
    return TargetStatus(target, values(**found))


def done(command: MechanismCommand, message: str = "") -> Outcome:
    """It is changed."""
    return Outcome(command.id, "done", message)


def failed(command: MechanismCommand, message: str) -> Outcome:
    """It may work later."""
    return Outcome(command.id, "failed", message)


def refused(command: MechanismCommand, message: str) -> Outcome:
    """It won't work with these arguments, or here."""
    return Outcome(command.id, "refused", message)
