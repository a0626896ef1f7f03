"""What control plane, policies and agents say about mechanisms: their options, status, commands and outcomes.

The plugin contract that uses these is in `mechanisms/`; policies see `Options` and `Status` in their view.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .messages.codec import Message


class VerbOption(Message, frozen=True):
    """One thing that a mechanism can do here, and with which values."""

    verb: str
    """The name that `permittedActions` accepts."""
    doc: str = ""
    arguments: dict[str, msgspec.Raw] = {}
    """JSON Schema of each argument by name."""
    disruptive: bool = False
    """True when applying it interrupts what runs."""


class Options(Message, frozen=True):
    """What a mechanism offers on this node now; empty when the hardware lacks it."""

    verbs: tuple[VerbOption, ...] = ()
    reason: str = ""
    """Why nothing is offered."""
    runs: tuple[str, ...] = ()
    """Of a mechanism that runs replicas through plugins: their names (`onnx`); placement asks for them. Anything when
    empty."""


class TargetStatus(Message, frozen=True):
    """State of one target (replica id, or empty for the node)."""

    target: str
    values: dict[str, msgspec.Raw] = {}


class Status(Message, frozen=True):
    """What is set now."""

    targets: tuple[TargetStatus, ...] = ()


class MechanismCommand(Message, frozen=True):
    """A change to make; the same id twice is done once."""

    id: str
    verb: str
    target: str = ""
    arguments: dict[str, msgspec.Raw] = {}


class Outcome(Message, frozen=True):
    """What came of a command."""

    id: str
    state: Literal["done", "running", "failed", "refused"]
    message: str = ""
    values: dict[str, msgspec.Raw] = {}
