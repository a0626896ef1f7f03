"""Starts the processes of the demo and ends exactly those: a control plane with its broker, and an agent for each node.

Every process gets a folder of its own below one temporary folder. What an agent starts in sessions of its own (gateway,
workers, components) is found by that folder in its environment or arguments, and ended with it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from ....descriptions.document import Value
from ....descriptions.errors import ShoalError
from ....descriptions.yaml import dump_yaml
from ...api.client import BlockingClient

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "01-digits"
NODES = {"cloud-1": "cloud", "edge-1": "edge", "edge-2": "edge", "far-1": "far-edge"}
START_S = 30.0
END_S = 5.0
LOG_TAIL = 6000
MARK = "SHOAL_DEMO_FOLDER"
"""Environment variable with a process's folder; children inherit it."""


class StartError(ShoalError):
    """A process of the demo did not come up."""


@dataclass
class Continuum:
    """One machine playing a whole slice. Use it with `with`; leaving ends every process that it began."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)
    url: str = ""

    def __enter__(self) -> Continuum:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        everyone = [process for name in self.processes for process in self.processes_of(name)]
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, stubborn = psutil.wait_procs(everyone, timeout=END_S)
        for process in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def token_file(self) -> Path:
        """The admin token that the control plane wrote."""
        return self.folder / "control-plane" / "state" / "admin.token"

    def client(self) -> BlockingClient:
        """A client with all rights."""
        return BlockingClient(self.url, self.token_file.read_text(encoding="utf-8").strip())

    def start_control_plane(self) -> None:
        """Start it, with an embedded broker, on free ports; returns when it serves."""
        ready = self.folder / "control-plane" / "ready"
        config: Value = {
            "slice": "demo",
            "stateDir": str(self.folder / "control-plane" / "state"),
            "api": {"port": 0},
            "broker": {"port": 0},
        }
        self._start("control-plane", "control-plane", config, "--ready-file", str(ready))
        deadline_s = time.monotonic() + START_S
        while not ready.exists():
            self._check("control-plane", deadline_s)
            time.sleep(0.05)
        self.url = ready.read_text(encoding="utf-8").strip()

    def start_agent(self, name: str, token: str) -> None:
        """Start one node's agent; it joins by itself."""
        programs = self.folder / name / "programs"
        programs.mkdir(parents=True)
        _write_program(programs / "digits-prefilter", EXAMPLE / "prefilter.py")
        token_file = self.folder / name / "join.token"
        token_file.touch(mode=0o600)
        token_file.write_text(token, encoding="utf-8")
        config: Value = {
            "name": name,
            "layer": NODES[name],
            "stateDir": str(self.folder / name / "state"),
            "runtimeDir": str(self.folder / name / "run"),
            "controlPlane": {"url": self.url, "tokenFile": str(token_file)},
            "gateway": {"port": 0},
            "mechanisms": {"inference": {}, "process": {"programs": [f"{programs}/"]}},
        }
        self._start(name, "agent", config)

    def processes_of(self, name: str) -> list[psutil.Process]:
        """The process of that name and all that it started, in whatever session they are."""
        mark = str(self.folder / name)
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == mark or any(mark + "/" in part for part in process.cmdline()):
                    found |= {process, *process.children(recursive=True)}
        return sorted((one for one in found if one.pid != os.getpid()), key=lambda one: one.pid)

    def kill(self, name: str) -> tuple[int, float]:
        """SIGKILL a node's agent and all that it started, as a power cut would; how many, and when by `monotonic`."""
        self.killed.add(name)
        killed, killed_s = 0, 0.0
        for _ in range(3):  # what was being forked while we looked is found on the next look
            found = self.processes_of(name)
            killed_s = killed_s or time.monotonic()
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed += 1
            if not found:
                break
            psutil.wait_procs(found, timeout=END_S)
        return killed, killed_s

    def logs(self) -> dict[str, str]:
        """The end of what each process wrote."""
        return {
            name: (self.folder / name / "log").read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]
            for name in self.processes
        }

    def check_alive(self) -> None:
        """Raises `StartError` when a process that should run has ended."""
        for name, process in self.processes.items():
            if name not in self.killed and process.poll() is not None:
                raise StartError(f"{name} ended with {process.returncode}: {self.logs()[name]}")

    def _start(self, name: str, verb: str, config: Value, *arguments: str) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / f"{verb}.yaml"
        path.write_text(dump_yaml(config), encoding="utf-8")
        argv = [sys.executable, "-m", "shoal", verb, "--config", str(path), *arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_")}
        with (folder / "log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=environment | {MARK: str(folder)}, cwd=folder,
            )  # fmt: skip

    def _check(self, name: str, deadline_s: float) -> None:
        if self.processes[name].poll() is not None or time.monotonic() > deadline_s:
            raise StartError(f"{name} did not come up: {self.logs()[name]}")


def _write_program(path: Path, script: Path) -> None:
    """A program in a folder that the node's operator allows: this Python running the example's script."""
    if " " in sys.executable:
        raise StartError(f"a path with spaces can't stand behind #!: {sys.executable}")
    source = script.read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
    path.chmod(0o755)
