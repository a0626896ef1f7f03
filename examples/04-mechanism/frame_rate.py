"""A mechanism: pictures a second of a camera program, in a file that the program reads before each picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shoal.descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from shoal.mechanisms.arguments import Json, argument, done, refused, status, values, verb
from shoal.mechanisms.mechanism import Mechanism


@dataclass(frozen=True)
class FrameRate(Mechanism):
    """Slow a camera down, or let it go at full speed."""

    file: Path = Path("/run/shoal/frame-rate")
    fps_max: int = 30

    @classmethod
    def sample(cls, folder: Path) -> FrameRate:
        """One to try, for `shoal mechanism test`."""
        return cls(folder / "frame-rate")

    def options(self) -> Options:
        """More pictures are faster: that lets the control plane use the knob by itself for a missed latency."""
        fps: dict[str, Json] = {"type": "integer", "minimum": 1, "maximum": self.fps_max, "x-faster": "higher"}
        return Options((verb("setFrameRate", "Pictures a second.", fps=fps),))

    def status(self) -> Status:
        """Under the argument's name, so that a policy can compare."""
        return Status((status(fps=self._fps()),))

    def apply(self, command: MechanismCommand) -> Outcome:
        """Write the file; `argument` refuses what is missing or no integer."""
        fps = argument(command, "fps", int) if command.verb == "setFrameRate" else 0
        if not 1 <= fps <= self.fps_max:
            return refused(command, f"only setFrameRate, with fps from 1 to {self.fps_max}")
        self.file.write_text(str(fps))
        return done(command)

    def inverse(self, command: MechanismCommand) -> MechanismCommand:
        """Back to the rate of now."""
        return MechanismCommand(command.id, command.verb, arguments=values(fps=self._fps()))

    def _fps(self) -> int:
        return int(self.file.read_text()) if self.file.exists() else self.fps_max
