"""What a component runs as, and what that takes: a model, a program or a container; resources and devices."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from ..quantities import Bytes, Cores, Duration
from .meta import Fault, Frozen, Name, PluginName, repeated

Argument = Annotated[str, StringConstraints(max_length=4096)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class Resources(Frozen):
    """What one replica reserves on its node; placement never reserves more than a node has."""

    cpu: Cores = 0.0
    """Cores, also the CPU limit of a process."""
    memory: Bytes = 0
    """Bytes, also the memory limit of a process."""
    disk: Bytes = 0
    """Bytes."""


class AcceleratorRequest(Frozen):
    """Accelerators that one replica occupies."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,30}$")]
    """`gpu`, `npu`, `tpu`, `fpga`, …"""
    model: str | None = Field(default=None, max_length=63)
    """Any model when left out."""
    count: int = Field(default=1, ge=1, le=64)
    """How many."""
    memory: Bytes = 0
    """Memory that each must have."""


class SensorRequest(Frozen):
    """A sensor that the node must have."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,30}$")]
    """`camera`, `microphone`, `temperature`, …"""
    model: str | None = Field(default=None, max_length=63)
    """Any model when left out."""
    count: int = Field(default=1, ge=1, le=64)
    """How many the node must have."""


class InferenceRun(Frozen):
    """Serve a model on the node's inference gateway."""

    model: Name
    """Name of a Model object."""
    plugin: PluginName | None = None
    """Inference plugin; by default the one for the model's format."""
    device: str = Field(default="cpu", max_length=63)
    """`cpu`, or a device that the plugin knows, such as `cuda:0`."""
    options: dict[str, object] = Field(default_factory=dict, max_length=64)
    """Options of the inference plugin."""


class RestartPolicy(StrEnum):
    """When a process that ended is started again."""

    ALWAYS = "always"
    ON_FAILURE = "onFailure"
    NEVER = "never"


class Port(Frozen):
    """A TCP port that a process listens on."""

    name: Name
    """Unique within the component."""
    port: int = Field(default=0, ge=0, le=65535)
    """0 takes any free port; the process finds it in `SHOAL_PORT_<NAME>`."""


class Readiness(Frozen):
    """When a process counts as ready; without it, as soon as it runs."""

    port: Name
    """Name of one of the component's ports."""
    path: str | None = Field(default=None, max_length=1024, pattern=r"^/")
    """HTTP path that must answer 2xx; without it an accepted connection is enough."""
    timeout: Duration = 60.0
    """How long a start may take."""


class ProcessRun(Frozen):
    """Run a program that the node's operator allowed, by argument vector, without a shell."""

    command: tuple[Argument, ...] = Field(min_length=1, max_length=256)
    """The first is a program name or absolute path that the agent's configuration allows."""
    env: dict[EnvName, Argument] = Field(default_factory=dict, max_length=128)
    """Variables added to its environment."""
    restart: RestartPolicy = RestartPolicy.ALWAYS
    """When it is started again."""
    ports: tuple[Port, ...] = Field(default=(), max_length=16)
    """TCP ports that it listens on."""
    readiness: Readiness | None = None
    """How to tell that it is ready."""
    stop_grace: Duration = 5.0
    """Between SIGTERM and SIGKILL."""
    open_files: int = Field(default=256, ge=16, le=65536)
    """Limit of open files (RLIMIT_NOFILE)."""

    def faults(self) -> Iterator[Fault]:
        names = tuple(port.name for port in self.ports)
        yield from _port_faults(self.ports)
        if self.readiness and self.readiness.port not in names:
            told, at = f"no port {self.readiness.port!r}", ("readiness", "port")
            yield Fault(told, at, "one of the component's ports", self.readiness.port, names)


class ContainerRun(Frozen):
    """Run a container image (refused with the reason until a container mechanism exists)."""

    image: str = Field(min_length=1, max_length=512)
    """Reference as registries know it."""
    command: tuple[Argument, ...] = Field(default=(), max_length=256)
    """Instead of the image's own."""
    env: dict[EnvName, Argument] = Field(default_factory=dict, max_length=128)
    """Variables added to its environment."""
    ports: tuple[Port, ...] = Field(default=(), max_length=16)
    """TCP ports that it listens on."""

    def faults(self) -> Iterator[Fault]:
        return _port_faults(self.ports)


def _port_faults(ports: tuple[Port, ...]) -> Iterator[Fault]:
    yield from repeated((port.name for port in ports), ("ports",), "name")
    # Any free port (0) is another one each time, so those are told apart by their place.
    numbers = (str(port.port) if port.port else f"any {index}" for index, port in enumerate(ports))
    yield from repeated(numbers, ("ports",), "port")
