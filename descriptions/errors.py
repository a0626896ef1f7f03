"""Every error Shoal raises on purpose. Whoever raises says whose fault it is by the class; drivers and the CLI decide.

    ShoalError
    ├── DescriptionError   theirs: a description, options or configuration is wrong; says where and what was expected
    ├── PluginError        a plugin broke its contract; carries its name; the cycle goes on without it
    ├── TransportError     the world: a socket, a broker, a disk; drivers retry with a bounded, jittered delay
    ├── ProtocolError      a peer sent nonsense; dropped and counted, never retried
    └── RefusedError       understood and refused: a quota, a permission, a conflict, a missing right

"No node fits" is a decision, not an error. Our own mistakes are assertions.
"""

from __future__ import annotations


class ShoalError(Exception):
    """The root: `except ShoalError` catches what Shoal raises on purpose and nothing else."""


class DescriptionError(ShoalError):
    """Something people wrote is wrong.

    `line` and `column` count from 1, `path` reads as `spec.components[0].resources.cpu`. `expected` completes the
    sentence "expected …"; `nearest` is the valid word closest to the one that was written. `others` are the further
    errors of the same input, so that one round of corrections is enough.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        path: str | None = None,
        expected: str | None = None,
        nearest: str | None = None,
        others: tuple[DescriptionError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.column = column
        self.path = path
        self.expected = expected
        self.nearest = nearest
        self.others = others

    @property
    def all(self) -> tuple[DescriptionError, ...]:
        """This error and the others of the same input, in the order of the input."""
        return (self, *self.others)

    @property
    def where(self) -> str:
        """`file:line:column`, as editors and terminals read it; what isn't known is left out."""
        numbers = [str(number) for number in (self.line, self.column) if number is not None]
        return ":".join([self.file or "<input>", *numbers]) if numbers else self.file or ""

    def __str__(self) -> str:
        """`file:line:column: path: message; expected …; did you mean …?`."""
        told = self.message
        if self.expected:
            told += f"; expected {self.expected}"
        if self.nearest:
            told += f"; did you mean {self.nearest!r}?"
        return ": ".join(part for part in (self.where, self.path, told) if part)


class PluginError(ShoalError):
    """A plugin (policy, mechanism, inference) raised, overran, or answered nonsense."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"{plugin}: {message}")
        self.plugin = plugin
        self.message = message


class TransportError(ShoalError):
    """The world failed: a connection, a broker, a file. Trying again later may help."""


class ProtocolError(ShoalError):
    """A peer sent what the protocol does not allow. Trying again does not help."""


class RefusedError(ShoalError):
    """The request was understood and is not allowed or not possible in the present state."""
