"""The contract of a mechanism: what it offers, what is set, and how a command changes it.

Authors subclass `Mechanism` as a frozen dataclass whose fields are the operator's options. The agent finds the class
by name (`registry.py`), asks it for options and status, hands it commands and keeps the journal that undoes them. Calls
come one at a time, in a thread that may block for a few seconds; whatever a mechanism raises is reported, not fatal.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod

from ..descriptions.mechanism import MechanismCommand, Options, Outcome, Status


class Mechanism(ABC):
    """Something on a node that can be changed: a CPU's frequency, a process's limits, a model's options.

    A dozen lines make one:

        @dataclass(frozen=True)
        class Fan(Mechanism):
            path: str = "/sys/class/hwmon/hwmon0/pwm1"

            def options(self) -> Options: ...
            def status(self) -> Status: ...
            def apply(self, command: MechanismCommand) -> Outcome: ...
    """

    def __init_subclass__(cls) -> None:
        """Refuse a method that looks like a misspelt one of the contract: it would never be called."""
        super().__init_subclass__()
        contract = {name for kind in cls.__mro__[1:] for name in vars(kind) if not name.startswith("_")}
        for name in vars(cls):
            if name.startswith("_") or name in contract or not callable(getattr(cls, name)):
                continue
            near = difflib.get_close_matches(name, contract, 1, 0.75)
            if near:
                raise TypeError(
                    f"{cls.__name__}.{name} is not in the contract of mechanisms; did you mean {near[0]!r}?"
                )

    @abstractmethod
    def options(self) -> Options:
        """The verbs that work here and now; none, with the reason, where the hardware lacks what it takes."""

    @abstractmethod
    def status(self) -> Status:
        """What is set at present, for each target."""

    @abstractmethod
    def apply(self, command: MechanismCommand) -> Outcome:
        """Make the change. The agent never calls it twice with one id; a repeated value must do no harm."""

    def inverse(self, command: MechanismCommand) -> MechanismCommand | None:
        """The command that would restore what `command` is about to change; None where nothing needs restoring.

        Asked before `apply` and written to the undo journal first, so that a crash between the two is undone.
        """
        return None
