"""Brokers as child processes: the embedded one and Mosquitto, on a free loopback port, with their data in a folder.

`shoal demo` and `shoal bench` start one, and so do the tests, which run against both. Whoever starts one ends it;
nothing else is touched. Blocking: from asyncio, call it in a thread.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..descriptions.errors import TransportError
from .acl import mosquitto_acl
from .credentials import CONTROL_PLANE, BrokerCredentials

MOSQUITTO_PATHS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
POLL_S = 0.01


def find_mosquitto() -> str | None:
    """Where Mosquitto is installed; Debian puts it outside of a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=MOSQUITTO_PATHS)


@dataclass
class BrokerProcess(ABC):
    """A broker of this machine. Use it as a context manager, or call `start` and `stop`."""

    folder: Path
    credentials: BrokerCredentials
    start_timeout_s: float = 15.0
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """For `LinkOptions`."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id; an error when it doesn't run."""
        if self.process is None:
            raise TransportError("the broker isn't running")
        return self.process.pid

    def password(self, username: str = CONTROL_PLANE) -> str:
        """A password that the broker accepts for this username."""
        return self.credentials.password(username)

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it accepts connections; `TransportError` with its output when it does not."""

    def stop(self) -> None:
        """Ask it to end, insist after five seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5.0)
        self.process = None

    def kill(self) -> None:
        """SIGKILL: clients get no word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(5.0)
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def can_log_in(self, username: str) -> bool:
        """Whether a CONNECT with this username gets a CONNACK that says yes."""
        fields = (f"{username}.probe", username, self.credentials.password(username))
        body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + b"".join(len(f).to_bytes(2, "big") + f.encode() for f in fields)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as probe:
            # The length is 7 bits a byte (MQTT 3.1.1 §2.2.3); a uid and its password need two of them.
            probe.sendall(bytes((0x10, len(body) & 0x7F | 0x80, len(body) >> 7)) + body)
            answer = probe.recv(4)
            probe.sendall(b"\xe0\x00")
            return answer == b"\x20\x02\x00\x00"
        return False

    def _spawn(self, argv: list[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def _wait(self, what: str, is_done: object) -> None:
        assert callable(is_done)
        deadline_s = time.monotonic() + self.start_timeout_s
        while not is_done():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise TransportError(f"{what}: {self._log_tail()}")
            time.sleep(POLL_S)

    def _log_tail(self) -> str:
        log = self.folder / "broker.log"
        return log.read_bytes()[-2000:].decode(errors="replace").strip() if log.exists() else "no output"


@dataclass
class EmbeddedBroker(BrokerProcess):
    """`python -m shoal.telemetry.broker`."""

    def start(self) -> None:
        """See `BrokerProcess.start`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready, secret = self.folder / "ready", self.folder / "credentials.json"
        ready.unlink(missing_ok=True)
        self.credentials.save(secret)
        module = f"{__package__}.broker"
        arguments = ["--port", str(self.port), "--ready-file", str(ready), "--credentials-file", str(secret)]
        self._spawn([sys.executable, "-m", module, *arguments])
        self._wait("the embedded broker did not start", ready.exists)
        self.port = int(ready.read_text())


@dataclass
class Mosquitto(BrokerProcess):
    """Eclipse Mosquitto with the limits, passwords and ACL that `docs/wire.md` asks of a production broker."""

    usernames: set[str] = field(default_factory=lambda: {CONTROL_PLANE})
    limits: tuple[str, ...] = ()
    """Further lines of `mosquitto.conf`."""

    def start(self) -> None:
        """See `BrokerProcess.start`."""
        binary = find_mosquitto()
        if binary is None:
            raise TransportError("mosquitto isn't installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port()
        (self.folder / "acl").write_text(mosquitto_acl(self.credentials.slice))
        (self.folder / "acl").chmod(0o600)
        self._write_passwords()
        (self.folder / "mosquitto.conf").write_text(self._configuration())
        self._spawn([binary, "-c", str(self.folder / "mosquitto.conf")])
        self._wait("mosquitto did not start", lambda: self.can_log_in(CONTROL_PLANE))

    def password(self, username: str = CONTROL_PLANE) -> str:
        """A password that Mosquitto accepts; a new username is added to its password file first."""
        return self.passwords(username)[username]

    def passwords(self, *usernames: str) -> dict[str, str]:
        """Passwords of many usernames with one reload."""
        new = set(usernames) - self.usernames
        if new:
            self.usernames |= new
            self._write_passwords()
            os.kill(self.pid, signal.SIGHUP)
            self._wait("mosquitto did not reload its passwords", lambda: self.can_log_in(max(new)))
        return {username: self.credentials.password(username) for username in usernames}

    def _write_passwords(self) -> None:
        lines = (_mosquitto_hash(username, self.credentials.password(username)) for username in sorted(self.usernames))
        partial = self.folder / "passwords.partial"
        partial.write_text("\n".join(lines) + "\n")
        partial.chmod(0o600)
        partial.replace(self.folder / "passwords")

    def _configuration(self) -> str:
        lines = (
            f"listener {self.port} 127.0.0.1",
            *(("user root",) if os.geteuid() == 0 else ()),  # its data folder is ours alone
            "allow_anonymous false",
            f"password_file {self.folder / 'passwords'}",
            f"acl_file {self.folder / 'acl'}",
            "max_packet_size 327680",
            "max_inflight_messages 20",
            "max_queued_messages 1000",
            "max_keepalive 120",
            "persistent_client_expiration 2d",
            "check_retain_source true",
            "set_tcp_nodelay true",
            "sys_interval 0",
            "log_dest stdout",
            "log_type error",
            "log_type warning",
            *self.limits,
            "",
        )
        return "\n".join(lines)


def _mosquitto_hash(username: str, password: str) -> str:
    """A line of a Mosquitto password file, as `mosquitto_passwd` writes it (PBKDF2, SHA-512, 101 rounds).

    The rounds don't matter for a password of 256 random bits.
    """
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101, 64)
    return f"{username}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
