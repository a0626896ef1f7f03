"""The planner beside the core: one thread that decides, explains and asks policies over snapshots, one thing at a time.

A plan may take as long as it takes; the event loop only hands over immutable snapshots and gets answers back. What goes
wrong in here is told as a failure of that question and never reaches the core. Used by `driver.py` and `services.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from ..descriptions.errors import ShoalError
from ..descriptions.kinds import Kind
from ..descriptions.kinds.meta import PluginUse
from ..policies.registry import PolicySettings
from .placement import Placement
from .planner.adapt import Wishes, metrics_of
from .planner.decide import Planner
from .planner.explanation import Explanation, WhatIf
from .planner.policies import Policies
from .planner.record import readable
from .planner.snapshot import Need, PlanProposal, PolicyFault, Snapshot

T = TypeVar("T")


class PlanningError(ShoalError):
    """The planner broke down over a question; the message says how."""


class Planning:
    """The thread and what lives in it. Use it with `async with`."""

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self._policies = Policies(settings)
        self._planner = Planner(self._policies)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="planner")
        self.questions = 0
        self.failures = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._policies.close()

    async def ask(self, question: Callable[[], T]) -> T:
        """Run it in the planner's thread. Raises `PlanningError` for what goes wrong and isn't the asker's fault."""
        self.questions += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, question)
        except ShoalError:
            raise
        except Exception as error:  # built-in policies run in there: the border to their code
            self.failures += 1
            raise PlanningError(f"{type(error).__name__}: {error}") from error

    async def decide(self, snapshot: Snapshot, needs: Sequence[Need]) -> PlanProposal:
        """Where replicas go."""
        return await self.ask(lambda: self._planner.decide(snapshot, needs, snapshot.version))

    async def scores(
        self, snapshot: Snapshot, application: str, component: str, nodes: Sequence[str]
    ) -> tuple[tuple[str, float], ...]:
        """Node name and score, for those of `nodes` on which one more replica could stand."""
        return await self.ask(lambda: self._planner.scores(snapshot, application, component, nodes, snapshot.version))

    async def explain(self, snapshot: Snapshot, application: str, component: str, node: str = "") -> Explanation:
        """Why a component is where it is; `RefusedError` where the snapshot doesn't know what is asked about."""
        return await self.ask(lambda: self._planner.why(snapshot, application, component, node, snapshot.version))

    async def what_if(
        self, snapshot: Snapshot, changed: Sequence[Kind], removed: Sequence[tuple[str, str]] = ()
    ) -> WhatIf:
        """What would happen with other descriptions; nothing is touched."""
        return await self.ask(lambda: self._planner.what_if(snapshot, changed, removed, snapshot.version))

    async def adapt(self, snapshot: Snapshot) -> Wishes:
        """What adaptation policies want changed."""
        return await self.ask(lambda: self._planner.adapt(snapshot, snapshot.version))

    async def metrics(self, snapshot: Snapshot) -> dict[str, float]:
        """Metrics that active policies read, and how often they want them measured, seconds."""
        uses = await self.ask(lambda: metrics_of(snapshot, self._policies))
        wanted: dict[str, float] = {}
        for use in uses:
            wanted[use.metric] = min(use.interval_s, wanted.get(use.metric, use.interval_s))
        return wanted

    def read_record(self, data: bytes) -> dict[str, object]:
        """A decision's record, for people; those of adaptation are JSON."""
        if data.startswith(b"{"):
            return msgspec.json.decode(data, type=dict[str, object])
        return readable(data)

    async def refresh(self) -> tuple[PolicyFault, ...]:
        """Look for changed policy files."""
        return await self.ask(self._policies.refresh)

    async def check(self, use: PluginUse) -> None:
        """Raises `DescriptionError` or `PluginError` where a policy isn't enabled or its options don't fit."""
        await self.ask(lambda: self._policies.check(use))

    def better_node(self, snapshot: Snapshot, replica: Placement) -> str:
        """The node that scores best for a replica, if that isn't its own. For adaptation, in the planner's thread."""
        return self._planner.better_node(snapshot, replica, snapshot.version)
