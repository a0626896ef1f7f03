"""A zygote: imports one runtime, opens nothing, and forks a worker whenever the gateway asks.

`python -m shoal.agents.inference.worker.zygote --runtime onnx --fd N` where N is its end of a SOCK_SEQPACKET pair. It
ends when the gateway closes the other end. Workers don't depend on it: they live on when it dies.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path

from ....descriptions import options as _options  # noqa: F401  # workers need it: import it once, before the forks
from ..plugins import plugin_class
from ..spawning import PACKET_MAX, SPAWN_FDS, Exited, Preloaded, Spawn, Spawned, decode_spawn, encode
from .channel import Channel
from .confine import confine, keep_only
from .loop import serve


def main(argv: list[str] | None = None) -> int:
    """Preload, then serve the gateway until it closes the socket."""
    parser = argparse.ArgumentParser(prog="shoal-zygote")
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--class", dest="class_path", required=True, help="module:Class of the plugin")
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the gateway's to handle
    with socket.socket(fileno=arguments.fd) as control:
        try:
            plugin_class(arguments.class_path).preload()
        except Exception as error:  # noqa: BLE001  # the plugin's border
            control.send(encode(Preloaded(f"plugin {arguments.runtime}: {type(error).__name__}: {error}")))
            while control.recv(PACKET_MAX):  # closing with packets unread would throw away what we said
                pass
            return 1
        control.send(encode(Preloaded(threads=sum(1 for _ in Path("/proc/self/task").iterdir()))))
        Zygote(control, {arguments.runtime: arguments.class_path}).run()
    return 0


class Zygote:
    """Forks and reaps. One thread, no locks: forking is safe."""

    def __init__(self, control: socket.socket, classes: dict[str, str]) -> None:
        self._control = control
        self._classes = classes
        self._incarnations: dict[int, int] = {}
        """Worker pid → incarnation."""

    def run(self) -> None:
        """Answer packets and report exits until the gateway is gone."""
        gc.collect()
        gc.freeze()  # a collection in a worker would write to every page that it shares with us
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wake_r, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == wake_r:
                        os.read(wake_r, 4096)
                        self._reap()
                    elif not self._answer():
                        return

    def _answer(self) -> bool:
        packet, fds, _, _ = socket.recv_fds(self._control, PACKET_MAX, SPAWN_FDS)
        if not packet:
            return False
        try:
            self._fork(decode_spawn(packet), fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, spawn: Spawn, fds: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._control.send(encode(Exited(spawn.incarnation, f"fork failed: {error}")))
            return
        if pid == 0:
            _become_worker(spawn, fds, self._classes)
        self._incarnations[pid] = spawn.incarnation
        pidfd = os.pidfd_open(pid)  # we have not reaped it, so the pid is still its own
        socket.send_fds(self._control, [encode(Spawned(spawn.incarnation, pid))], [pidfd])
        os.close(pidfd)

    def _reap(self) -> None:
        while True:
            try:
                status = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if status is None:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(status.si_pid, signal.SIGKILL)  # what a predictor started goes with it
            os.waitpid(status.si_pid, 0)
            incarnation = self._incarnations.pop(status.si_pid, None)
            if incarnation is not None:
                self._control.send(encode(Exited(incarnation, _reason(status))))


def _reason(status: os.waitid_result) -> str:
    if status.si_code == os.CLD_EXITED:
        return f"exited with code {status.si_status}"
    return f"killed by {signal.Signals(status.si_status).name}"


def _become_worker(spawn: Spawn, fds: list[int], classes: dict[str, str]) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        sock_fd, lifeline_fd, log_fd = fds
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        keep_only({sock_fd, lifeline_fd})
        os.environ.update(spawn.env)
        _rename(f"shoal-{spawn.replica}")
        confine(lifeline_fd, spawn.memory_limit_mib)
        with socket.socket(fileno=sock_fd) as sock:
            sock.setblocking(True)
            serve(Channel(sock, spawn.body_len_max), classes, spawn.body_len_max)
        code = 0
    except BaseException:  # noqa: BLE001  # nothing may run into the zygote's own code above
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _rename(name: str) -> None:
    """Show the replica in `top` and `ps`."""
    Path("/proc/self/comm").write_text(name[:15])


if __name__ == "__main__":
    sys.exit(main())
