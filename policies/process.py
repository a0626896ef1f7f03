"""A policy process: loads one plugin, answers what the planner asks, and knows nothing else of the world.

Started as `python -P -s -m shoal.policies.process FD MEMORY DEADLINE` by the control plane's `planner/remote.py`, which
kills it when it overruns. It has no environment, no network where the kernel allows that, and limits on memory, time
and files; what the plugin prints goes nowhere. `child_state.py` keeps what was told, `loading.py` loads the plugin.
"""

from __future__ import annotations

import io
import os
import socket
import sys

import msgspec
import numpy as np

from ..descriptions.errors import DescriptionError, PluginError, ProtocolError
from ..descriptions.options import read_options
from .actions import Action, Move, Scale, Set
from .asking import ask_actions, ask_rating, ask_row, told
from .child_state import ChildState
from .confine import confine, limit_time
from .frames import (
    FRAME_BYTES_MAX,
    Adapt,
    Adapted,
    Answer,
    Bind,
    Bound,
    Load,
    Nodes,
    Rate,
    Rated,
    RatedRow,
    RateRow,
    SetRow,
    Told,
    Wrong,
    frame,
    read_told,
    receive,
)
from .loading import Plugin, load_plugin
from .policy import Policy


class Child:
    """One plugin and its instances."""

    def __init__(self, connection: socket.socket, deadline_s: float, *, is_offline: bool) -> None:
        self._connection = connection
        self._deadline_s = deadline_s
        self._is_offline = is_offline
        self._state = ChildState()
        self._plugin: Plugin | None = None
        self._instances: dict[int, Policy] = {}
        self._pending: Wrong | None = None
        """Something told could not be used; the next question is answered with it."""

    def serve(self) -> None:
        """Answer until the planner closes the connection."""
        while True:
            try:
                message = read_told(receive(self._connection, FRAME_BYTES_MAX))
            except EOFError:
                return
            limit_time(self._deadline_s)
            answer = self._answered(message)
            limit_time(0)
            if answer is not None:
                self._connection.sendall(frame(answer))

    def _answered(self, message: Told) -> Answer | None:
        try:
            answer = self._handle(message)
        except DescriptionError as error:
            answer = Wrong("description", error.message, error.path, error.expected, error.nearest)
        except PluginError as error:
            answer = Wrong("plugin", error.message)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the border to authors' code
            answer = Wrong("plugin", told(error))
        if isinstance(message, (Load, Bind, Rate, RateRow, Adapt)):
            pending, self._pending = self._pending, None
            return pending or answer
        if isinstance(answer, Wrong):
            self._pending = answer
        return None

    def _handle(self, message: Told) -> Answer | None:
        match message:
            case Load():
                self._plugin = load_plugin(message)
                self._instances.clear()
                return msgspec.structs.replace(self._plugin.loaded, is_offline=self._is_offline)
            case Bind():
                options = msgspec.json.decode(message.options, type=dict[str, object])
                self._instances[message.binding] = read_options(self._loaded().policy, options)
                return Bound()
            case Rate():
                return self._rate(message)
            case RateRow():
                return self._rate_row(message)
            case Adapt():
                return self._adapt(message)
            case Nodes():
                self._state.take_nodes(message, self._descriptor())
            case _:
                self._state.take(message)
        return None

    def _rate(self, message: Rate) -> Rated:
        view = self._state.view(message.moment)
        component = self._state.component(message.moment.application, message.component)
        asked = np.frombuffer(message.asked, dtype=np.bool_)
        policy = self._instances[message.binding]
        rating = ask_rating(self._name, policy, component, view, asked, reasons=message.reasons)
        return Rated(
            None if rating.raw is None else rating.raw.tobytes(),
            None if rating.refused is None else rating.refused.tobytes(),
            tuple((row, str(one.reason), str(one.change)) for row, one in rating.reasons.items()),
        )

    def _rate_row(self, message: RateRow) -> RatedRow:
        view = self._state.view(message.moment)
        component = self._state.component(message.moment.application, message.component)
        score, is_refused = ask_row(self._name, self._instances[message.binding], component, view, message.row)
        return RatedRow(score, is_refused)

    def _adapt(self, message: Adapt) -> Adapted:
        view = self._state.view(message.moment)
        actions = ask_actions(self._name, self._instances[message.binding], view.application, view)
        return Adapted(
            tuple(one for one in actions if isinstance(one, Move)),
            tuple(one for one in actions if isinstance(one, Scale)),
            tuple(_set_row(one) for one in actions if isinstance(one, Set)),
            "".join(_letter(one) for one in actions),
        )

    def _descriptor(self) -> int:
        """The shared memory that comes after the nodes."""
        _, descriptors, _, _ = socket.recv_fds(self._connection, 1, 1)
        if not descriptors:
            raise ProtocolError("the nodes came without their columns")
        return descriptors[0]

    def _loaded(self) -> Plugin:
        if self._plugin is None:
            raise ProtocolError("nothing is loaded")
        return self._plugin

    @property
    def _name(self) -> str:
        return self._loaded().name


def _letter(action: Action) -> str:
    return {Move: "m", Scale: "s", Set: "t"}[type(action)]


def _set_row(one: Set) -> SetRow:
    arguments = msgspec.json.encode(one.arguments)
    return SetRow(one.mechanism, one.verb, one.node, one.target, arguments, one.application, one.component, one.reason)


def main(arguments: list[str]) -> None:
    """`FD MEMORY DEADLINE`: the socket's descriptor, bytes of address space, seconds for an answer."""
    descriptor, memory_bytes, deadline_s = int(arguments[0]), int(arguments[1]), float(arguments[2])
    is_offline = confine(memory_bytes)
    sys.stdout = io.TextIOWrapper(io.FileIO(os.devnull, "w"))
    with socket.socket(fileno=descriptor) as connection:
        Child(connection, deadline_s, is_offline=is_offline).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
