"""Starts a policy process, talks to it within deadlines, and ends it. Knows frames, not what they mean.

The process gets a socket pair, an environment without anything of ours, `/` as its folder and standard streams that
lead nowhere but to a small file whose last line explains a death.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from ...descriptions.errors import PluginError, ProtocolError
from ...policies.frames import Answer, Told, frame, read_answer, receive

_log = logging.getLogger(__name__)

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",  # the order of a set is no reason for another decision
}
END_WITHIN_S = 2.0
LAST_WORDS_MAX = 2000
ANSWER_BYTES = 1024 * 1024
"""Room in an answer beside what each node may take."""
ANSWER_BYTES_PER_NODE = 1024


class PolicyProcess:
    """One running policy process."""

    def __init__(self, policy: str, memory_bytes: int, deadline_s: float) -> None:
        self.policy = policy
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `end`
        ours, theirs = socket.socketpair()
        module = f"{__name__.partition('.')[0]}.policies.process"
        arguments = [str(theirs.fileno()), str(memory_bytes), str(deadline_s)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._connection = ours
        _log.info("policy=%s pid=%d policy process started", policy, self._process.pid)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, messages: Sequence[Told], deadline_s: float, descriptor: int | None = None) -> None:
        """Send what needs no answer; `descriptor` goes after the last message. `PluginError` when it can't be sent."""
        with self._within(deadline_s):
            self._connection.settimeout(deadline_s)
            self._connection.sendall(b"".join(frame(message) for message in messages))
            if descriptor is not None:
                socket.send_fds(self._connection, [b"\0"], [descriptor])

    def ask(self, message: Told, nodes: int, deadline_s: float) -> Answer:
        """Send a question and wait for its answer; `PluginError` says what went wrong, and then the process is gone."""
        end_s = time.monotonic() + deadline_s
        with self._within(deadline_s):
            self._connection.settimeout(deadline_s)
            self._connection.sendall(frame(message))
            return read_answer(receive(self._connection, ANSWER_BYTES + ANSWER_BYTES_PER_NODE * nodes, end_s))

    def end(self) -> None:
        """Close the connection, which ends it; kill it if it doesn't."""
        self._connection.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._kill()
        self._errors.close()

    @contextlib.contextmanager
    def _within(self, deadline_s: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self._kill()
            raise PluginError(self.policy, f"no answer within {deadline_s:g} s") from None
        except (EOFError, OSError):
            raise PluginError(self.policy, self._died()) from None
        except ProtocolError as error:
            self._kill()
            raise PluginError(self.policy, f"answered nonsense: {error}") from None

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _died(self) -> str:
        try:
            status = self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._kill()
            return "closed its connection"
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        words = self._last_words()
        return f"its process {how}" + (f": {words}" if words else "")

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - LAST_WORDS_MAX))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""
