"""Calls mechanisms, one at a time each, and tells the reconcile core what came of it.

`run.py` hands over what the core wants started, stopped, set and undone. Every mechanism has a queue and a worker of
its own, so that a slow one delays nobody else; between orders a runner is looked at, often while something changes and
rarely when all is quiet. Whatever a plugin raises ends here, with its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ..descriptions.errors import PluginError, ProtocolError, RefusedError, ShoalError
from ..descriptions.mechanism import MechanismCommand, Outcome
from ..mechanisms.mechanism import Mechanism
from ..mechanisms.offers import check_offer
from ..mechanisms.runner import Host, Observation, Runner
from .reconcile_events import Event, Observed, StartFinished, StartReplica, StopReplica

logger = logging.getLogger(__name__)

T = TypeVar("T")

CALL_S = 60.0
"""Longest call of a mechanism; one that takes longer is reported and not called again before it has returned."""
LOOK_SOON_S = 0.1
LOOK_CHANGING_S = 0.25
LOOK_QUIET_S = 5.0
REOPEN_S = 10.0
"""Between two attempts to open a runner that could not be."""
CHANGING = ("fetching", "starting", "stopping")


@dataclass(frozen=True)
class Call:
    """Something to do with a mechanism, in its turn."""

    mechanism: str
    make: Callable[[], object]
    """Blocking, run in the mechanism's thread."""
    done: asyncio.Future[object]


Order = StartReplica | StopReplica | Call


@dataclass
class Worker:
    """One mechanism, its queue and its thread."""

    name: str
    mechanism: Mechanism
    orders: deque[Order] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    thread: ThreadPoolExecutor | None = None
    failures: int = 0
    """Calls that raised something else than they may, or overran."""
    is_stuck: bool = False
    problem: str = ""
    """Why its runner could not be opened."""

    def put(self, order: Order) -> None:
        """Do it after what was asked for before; the core asks for each thing once, so the queue stays short."""
        self.orders.append(order)
        self.wake.set()

    def in_thread(self, call: Callable[[], object]) -> asyncio.Future[object]:
        """Run it in the mechanism's own thread, made at first use."""
        if self.thread is None:
            self.thread = ThreadPoolExecutor(1, f"mechanism-{self.name}")
        return asyncio.get_running_loop().run_in_executor(self.thread, call)


class Runners:
    """All enabled mechanisms of a node."""

    def __init__(
        self, mechanisms: Mapping[str, Mechanism], tell: Callable[[Event], None], new_id: Callable[[], str]
    ) -> None:
        self._workers = {name: Worker(name, mechanism) for name, mechanism in mechanisms.items()}
        self._tell = tell
        self._new_id = new_id
        self._tasks: list[asyncio.Task[None]] = []
        self._host: Host | None = None

    @property
    def runner_names(self) -> frozenset[str]:
        """Mechanisms that run replicas."""
        return frozenset(name for name, one in self._workers.items() if isinstance(one.mechanism, Runner))

    @property
    def mechanisms(self) -> Mapping[str, Mechanism]:
        """By name."""
        return {name: one.mechanism for name, one in self._workers.items()}

    @property
    def failures(self) -> int:
        """Calls that broke the contract, of all mechanisms."""
        return sum(one.failures for one in self._workers.values())

    async def open(self, host: Host) -> None:
        """Let runners find what runs from before, then begin to work. One that cannot is tried again, now and then."""
        self._host = host
        await asyncio.gather(*(self._open(one) for one in self._workers.values()))
        for one in self._workers.values():
            self._tasks.append(asyncio.create_task(self._work(one), name=f"mechanism-{one.name}"))

    async def _open(self, worker: Worker) -> None:
        if not isinstance(worker.mechanism, Runner):
            return
        assert self._host is not None
        try:
            async with asyncio.timeout(CALL_S):
                await worker.mechanism.open(self._host)
        except Exception as error:  # noqa: BLE001 - a plugin's border
            worker.problem = f"cannot be opened: {self._broke(worker, error)}"
        else:
            worker.problem = ""

    def submit(self, effect: StartReplica | StopReplica) -> None:
        """Do it in its turn; the core hears of it."""
        worker = self._workers.get(effect.mechanism)
        if worker is not None:
            worker.put(effect)

    async def call(self, mechanism: str, make: Callable[[Mechanism], T]) -> T:
        """What `make` gives for the mechanism, in its turn and its thread; `ShoalError` says why it gives nothing."""
        worker = self._workers.get(mechanism)
        if worker is None:
            raise RefusedError(f"the mechanism {mechanism!r} is not enabled on this node")
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        worker.put(Call(mechanism, partial(make, worker.mechanism), done))
        return await done  # type: ignore[return-value]

    async def apply(self, mechanism: str, command: MechanismCommand) -> Outcome:
        """Apply a command that the mechanism offers; errors come back as outcomes."""

        def make(one: Mechanism) -> Outcome:
            check_offer(mechanism, one.options(), command)
            return one.apply(command)

        try:
            outcome: object = await self.call(mechanism, make)
        except RefusedError as error:
            return Outcome(command.id, "refused", str(error))
        except ShoalError as error:
            return Outcome(command.id, "failed", str(error))
        if not isinstance(outcome, Outcome):
            return Outcome(command.id, "failed", f"{mechanism} answered {type(outcome).__name__}, not an Outcome")
        return outcome

    def changed(self, mechanism: str) -> None:
        """Look at this runner soon."""
        worker = self._workers.get(mechanism)
        if worker is not None:
            worker.wake.set()

    async def _work(self, worker: Worker) -> None:
        wait_s = 0.0
        while True:
            order = await self._next(worker, wait_s)
            if order is None:
                wait_s = await self._look(worker)
                continue
            await self._carry_out(worker, order)
            wait_s = min(wait_s, LOOK_SOON_S)

    async def _next(self, worker: Worker, wait_s: float) -> Order | None:
        """The next order, or None when it is time to look."""
        if not worker.orders:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await worker.wake.wait()
            worker.wake.clear()
        return worker.orders.popleft() if worker.orders else None

    async def _carry_out(self, worker: Worker, order: Order) -> None:
        match order:
            case StartReplica():
                await self._start(worker, order)
            case StopReplica():
                await self._stop(worker, order)
            case Call():
                await self._call(worker, order)

    async def _start(self, worker: Worker, order: StartReplica) -> None:
        observation: Observation | None = None
        error, refused = "", False
        try:
            if worker.problem:
                raise PluginError(worker.name, worker.problem)
            assert isinstance(worker.mechanism, Runner)
            async with asyncio.timeout(CALL_S):
                observation = await worker.mechanism.start(order.spec, order.digest)
        except (RefusedError, ProtocolError) as refusal:
            error, refused = str(refusal), True
        except ShoalError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001 - a plugin's border
            error = f"{worker.name}: {self._broke(worker, failure)}"
        self._tell(StartFinished(self._new_id(), order.spec.id, order.digest, observation, error, refused))

    async def _stop(self, worker: Worker, order: StopReplica) -> None:
        try:
            if worker.problem:
                raise PluginError(worker.name, worker.problem)
            assert isinstance(worker.mechanism, Runner)
            async with asyncio.timeout(CALL_S):
                await worker.mechanism.stop(order.replica, order.digest, order.drain_s)
        except ShoalError as error:
            logger.warning("replica=%s not stopped, tried again: %s", order.replica, error)
        except Exception as error:  # noqa: BLE001 - a plugin's border
            self._broke(worker, error)

    async def _call(self, worker: Worker, order: Call) -> None:
        if order.done.cancelled():
            return
        try:
            result = await self._in_thread(worker, order.make)
        except ShoalError as error:
            order.done.set_exception(error)
        except Exception as error:  # noqa: BLE001 - a plugin's border
            order.done.set_exception(PluginError(worker.name, self._broke(worker, error)))
        else:
            order.done.set_result(result)

    async def _in_thread(self, worker: Worker, call: Callable[[], object]) -> object:
        if worker.is_stuck:
            raise PluginError(worker.name, "an earlier call has not returned")
        running = worker.in_thread(call)
        done, _ = await asyncio.wait((running,), timeout=CALL_S)
        if done:
            return running.result()
        worker.is_stuck = True
        worker.failures += 1
        running.add_done_callback(lambda _: setattr(worker, "is_stuck", False))
        raise PluginError(worker.name, f"the call took longer than {CALL_S:.0f} s")

    async def _look(self, worker: Worker) -> float:
        """Observe a runner and tell; how long to wait until the next look."""
        if not isinstance(worker.mechanism, Runner):
            return LOOK_QUIET_S
        if worker.problem:
            await self._open(worker)
        if worker.problem:
            # Nothing that it runs is known, but what is wanted of it shall fail with the reason.
            self._tell(Observed(self._new_id(), worker.name, ()))
            return REOPEN_S
        try:
            async with asyncio.timeout(CALL_S):
                found = await worker.mechanism.observe()
        except ShoalError as error:
            logger.warning("mechanism=%s not observed: %s", worker.name, error)
            return LOOK_QUIET_S
        except Exception as error:  # noqa: BLE001 - a plugin's border
            self._broke(worker, error)
            return LOOK_QUIET_S
        self._tell(Observed(self._new_id(), worker.name, found))
        return LOOK_CHANGING_S if any(one.phase in CHANGING for one in found) else LOOK_QUIET_S

    def _broke(self, worker: Worker, error: Exception) -> str:
        worker.failures += 1
        logger.error("mechanism=%s broke its contract", worker.name, exc_info=error)
        return f"{type(error).__name__}: {error}"

    async def close(self) -> None:
        """Stop working; what runs goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            if isinstance(worker.mechanism, Runner):
                with contextlib.suppress(ShoalError, OSError):
                    await worker.mechanism.close()
            if worker.thread is not None:
                worker.thread.shutdown(wait=False, cancel_futures=True)
