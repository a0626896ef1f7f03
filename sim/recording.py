"""Keeps what a run did, so that another run of the same seed can be held against it, step by step.

A recording is the scenario's digest, the seed and the trace hash every `STRIDE` steps. A replay runs again and names
the first stretch that differs: with that, what is not deterministic is found in minutes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..descriptions.errors import ProtocolError, ShoalError
from .scenario import LoadedScenario
from .world import World

STRIDE = 500
RECORDING_BYTES_MAX = 64 * 1024 * 1024


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """The run after so many steps."""

    step: int
    at_s: float
    trace_hash: str


class Recording(msgspec.Struct, frozen=True, rename="camel"):
    """One run."""

    scenario: str
    digest: str
    """Of the scenario and all that it names."""
    seed: int
    marks: tuple[Mark, ...]


@dataclass
class Recorder:
    """Collects the marks of a run that is being stepped."""

    marks: list[Mark] = field(default_factory=list)

    def after_step(self, world: World) -> None:
        """Call after each step."""
        if world.kernel.steps % STRIDE == 0:
            self.mark(world)

    def mark(self, world: World) -> None:
        """Note where the run is; call at its end, too."""
        self.marks.append(Mark(world.kernel.steps, world.kernel.now_s, world.trace.digest()))


def digest_of(loaded: LoadedScenario) -> str:
    """SHA-256 of all that decides a run but the seed and the code."""
    parts = [repr(loaded.scenario), *(kind.model_dump_json() for kind in loaded.kinds)]
    parts += [kind.model_dump_json() for kinds in loaded.changes for kind in kinds]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def taken(loaded: LoadedScenario, seed: int, recorder: Recorder) -> Recording:
    """The recording of a run that is over."""
    return Recording(loaded.scenario.name, digest_of(loaded), seed, tuple(recorder.marks))


def write(path: Path, recording: Recording) -> None:
    """Keep a recording."""
    path.write_bytes(msgspec.json.encode(recording))


def read(path: Path) -> Recording:
    """A kept recording; `ShoalError` when it is none."""
    if path.stat().st_size > RECORDING_BYTES_MAX:
        raise ShoalError(f"{path} is larger than {RECORDING_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recording)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"{path} is no recording: {error}") from None


def difference(before: Recording, after: Recording) -> str:
    """Where two runs part, in a sentence; empty when they are the same."""
    if before.digest != after.digest:
        return "the scenario is not the one that was recorded"
    previous = Mark(0, 0.0, "")
    for old, new in zip(before.marks, after.marks, strict=False):
        if old != new:
            return (
                f"the runs part between step {previous.step} ({previous.at_s:.3f} s) and step {old.step} "
                f"({old.at_s:.3f} s)"
            )
        previous = old
    if len(before.marks) != len(after.marks):
        return f"one run is longer: {len(before.marks)} and {len(after.marks)} marks"
    return ""
