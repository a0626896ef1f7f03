"""What the inference runner does between calls: bytes on their way, what the gateway was told, routes and options.

`inference.py` holds one while the agent runs. Replicas whose bytes are being fetched are `pending`; what the gateway
was told is written down first, so that a later agent knows what it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ..descriptions.errors import RefusedError, ShoalError, TransportError
from ..descriptions.messages.desired import InferenceTask, ReplicaSpec
from ..descriptions.messages.gateway import ServingReport, ServingSpec
from ..descriptions.messages.lease import Routes
from .gateway import Gateway
from .runner import Host, Observation
from .serving import Pending, Told, ToldRecords, observations_of, opaque_digest, run_of, with_guard
from .transfer.cache import Cache
from .transfer.http import Wanted

logger = logging.getLogger(__name__)

PLUGINS = {"onnx": "onnx", "tflite": "litert", "python": "python"}
"""Model format to the inference plugin that serves it unless the description says another."""
MIB = 1024 * 1024
SWAP_S = 20.0
SWAP_LOOK_S = 0.1
DYING_S = 0.05
"""A process whose sockets are closed already may still look alive for an instant."""
REVIVE_S = 5.0
"""Between two attempts to start a gateway that components need."""

Arguments = dict[str, msgspec.Raw]


@dataclass
class ServingSession:
    """From the agent's start to its end."""

    host: Host
    gateway: Gateway
    cache: Cache
    records: ToldRecords
    model_max: int
    enforce_memory: bool
    pending: dict[tuple[str, str], Pending] = field(default_factory=dict)
    told: dict[tuple[str, str], Told] = field(default_factory=dict)
    routes: dict[str, Routes] = field(default_factory=dict)
    overlays: dict[str, Arguments] = field(default_factory=dict)
    """Replica id or `application.component` to options, by `setOptions`."""
    called: frozenset[str] = frozenset()
    """Models that components of this node call."""
    _reviving: asyncio.Task[None] | None = None
    _revive_at_s: float = 0.0

    async def open(self) -> None:
        """Take over a gateway that runs."""
        if await self.gateway.adopt():
            self.told = self.records.load()

    async def start(self, spec: ReplicaSpec, digest: str) -> Observation:
        """Fetch and load in the background."""
        if not isinstance(spec.task, InferenceTask):
            raise RefusedError("not an inference task")
        sha256 = spec.task.artifact.sha256 if spec.task.artifact else ""
        pending = self.pending.get((spec.id, digest))
        if pending is None or pending.task is None:
            pending = self.pending[spec.id, digest] = Pending(spec, digest, sha256)
            pending.task = asyncio.create_task(self._bring_up(pending, spec.task), name=f"serve-{spec.id}")
        return self._observe_pending(pending)

    async def _bring_up(self, pending: Pending, task: InferenceTask) -> None:
        key = (pending.spec.id, pending.digest)
        try:
            path = await self._path_of(task)
            if await self.gateway.ensure():
                await self._put_all_routes()
            await self._tell(Told(pending.spec, pending.digest, self._serving_spec(pending, task, path)))
            if self.pending.get(key) is pending:
                del self.pending[key]
        except (ShoalError, OSError) as error:
            pending.error, pending.task = str(error), None
            logger.warning("replica=%s not served: %s", pending.spec.id, error)
        finally:
            self.host.changed("inference")

    async def _path_of(self, task: InferenceTask) -> Path:
        if task.format == "python":
            return _predictor_folder(task.predictor, self.host.gateway.predictors)
        if task.artifact is None:
            raise RefusedError(f"the model {task.model!r} has no artifact")
        wanted = Wanted(task.artifact.url, task.artifact.sha256, task.artifact.size, self.model_max)
        return await self.cache.get(wanted, self._in_use)

    def _in_use(self) -> set[str]:
        """Digests of models that must stay on disk."""
        pending = {one.sha256 for one in self.pending.values()}
        return pending | {told.model_sha256 for told in self.told.values()}

    def _serving_spec(self, pending: Pending, task: InferenceTask, path: Path) -> ServingSpec:
        predictor = {"predictor": msgspec.Raw(msgspec.json.encode(task.predictor))} if task.predictor else {}
        spec = pending.spec
        limit_mib = -(-spec.memory_bytes // MIB) if self.enforce_memory and spec.memory_bytes else None
        return ServingSpec(
            model=task.model,
            version=task.version,
            path=str(path),
            plugin=task.plugin or PLUGINS.get(task.format, task.format),
            digest=opaque_digest(pending.sha256, spec.revision, pending.digest),
            options=predictor | task.options | self._overlay_of(spec),
            device=task.device,
            memory_limit_mib=limit_mib,
        )

    def _overlay_of(self, spec: ReplicaSpec) -> Arguments:
        overlays = self.overlays
        return overlays.get(f"{spec.application}.{spec.component}", {}) | overlays.get(spec.id, {})

    async def _tell(self, told: Told) -> None:
        if told.spec.single_instance:
            told = with_guard(told, self.host.lease_file, self.gateway.folder / "admin.sock")
        self.told[told.key] = told
        self.records.save(told)
        await self.gateway.put(told.spec.id, told.serving)

    async def stop(self, replica: str, digest: str, drain_s: float) -> None:
        """Stop fetching or serving it; what is on its way to be swapped out by the gateway is left to it."""
        pending = self.pending.pop((replica, digest), None)
        if pending is not None and pending.task is not None:
            pending.task.cancel()
        report = next((one for one in await self.reports() if one.id == replica), None)
        if report is None:
            return
        if run_of(report.digest)[0] == digest:
            await self.gateway.delete(replica, drain_s)
        elif report.update is not None and run_of(report.update.digest)[0] == digest:
            now = self.told.get((replica, run_of(report.digest)[0]))
            if now is not None:
                await self._tell(now)  # takes the update back

    async def observe(self) -> tuple[Observation, ...]:
        """What is on its way, and what the gateway has."""
        self._revive()
        reports = await self.reports()
        served = [one for report in reports for one in observations_of(report)]
        pending = [self._observe_pending(one) for _, one in sorted(self.pending.items())]
        named = {(one.replica, one.digest) for one in pending}
        self._forget_all_but({(one.replica, one.digest) for one in served} | named)
        return tuple(pending + [one for one in served if (one.replica, one.digest) not in named])

    async def reports(self) -> tuple[ServingReport, ...]:
        """What the gateway says of each replica; none when it is not up. Sees to missing guards."""
        if not await self.gateway.adopt():
            return ()
        try:
            reports = await self.gateway.reports()
        except TransportError:
            await asyncio.sleep(DYING_S)
            if self.gateway.is_up:
                raise
            return ()  # it ended while it was asked
        for told in list(self.told.values()):
            if told.spec.single_instance and any(report.id == told.spec.id for report in reports):
                self._guard(told)
        return reports

    def _guard(self, told: Told) -> None:
        guarded = with_guard(told, self.host.lease_file, self.gateway.folder / "admin.sock")
        if guarded != told:
            self.told[told.key] = guarded
            self.records.save(guarded)

    def _forget_all_but(self, keys: set[tuple[str, str]]) -> None:
        for key in [key for key in self.told if key not in keys]:
            del self.told[key]
            self.records.remove(key)

    def _observe_pending(self, one: Pending) -> Observation:
        found = Observation(one.spec.id, one.digest, one.spec.revision, "starting")
        if one.task is None or one.task.done():
            return replace(found, phase="failed", message=one.error or "stopped")
        progress = self.cache.progress(one.sha256) if one.sha256 else None
        if progress is None:
            return found
        here, total = progress
        told = f"{100 * here // total} % of {total} bytes" if total else f"{here} bytes"
        return replace(found, phase="fetching", message=told)

    async def close(self) -> None:
        """Stop downloads; the gateway goes on."""
        for pending in list(self.pending.values()):
            if pending.task is not None:
                pending.task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ShoalError):
                    await pending.task
        if self._reviving is not None:
            self._reviving.cancel()
        await self.cache.close()
        self.gateway.forget()

    async def watch(self, models: frozenset[str]) -> None:
        """These models are called from this node: the gateway has to be up, and forgets the routes of all others."""
        self.called = models
        for model in [model for model in self.routes if model not in models]:
            del self.routes[model]
            if self.gateway.is_up:
                await self.gateway.delete_routes(model)
        self._revive()

    def _revive(self) -> None:
        """Start the gateway in the background if components need it and none runs; `start` does it for replicas."""
        now_s = asyncio.get_running_loop().time()
        is_idle = self._reviving is None or self._reviving.done()
        if self.called and not self.gateway.is_up and is_idle and now_s >= self._revive_at_s:
            self._revive_at_s = now_s + REVIVE_S
            self._reviving = asyncio.create_task(self._bring_gateway_up(), name="gateway")

    async def _bring_gateway_up(self) -> None:
        try:
            if await self.gateway.ensure():
                await self._put_all_routes()
        except (ShoalError, OSError) as error:
            logger.warning("gateway not up: %s", error)
        finally:
            self.host.changed("inference")

    async def route(self, routes: Routes) -> None:
        """Which nodes serve a model; told again whenever the gateway is new."""
        self.routes[routes.model] = routes
        if self.gateway.is_up:
            await self.gateway.put_routes(routes)

    async def _put_all_routes(self) -> None:
        for _, routes in sorted(self.routes.items()):
            await self.gateway.put_routes(routes)

    async def swap(self, target: str, restart_id: str) -> int:
        """Tell the gateway anew what it serves of the target; how many there were."""
        newest = {told.spec.id: told for told in self.told.values()}
        matching = [
            told
            for _, told in sorted(newest.items())
            if target in (told.spec.id, f"{told.spec.application}.{told.spec.component}")
        ]
        for told in matching:
            task = told.spec.task
            assert isinstance(task, InferenceTask)
            pending = Pending(told.spec, told.digest, told.model_sha256)
            serving = self._serving_spec(pending, task, Path(told.serving.path))
            if restart_id:
                serving = msgspec.structs.replace(serving, env=serving.env | {"SHOAL_RESTART": restart_id})
            await self._tell(msgspec.structs.replace(told, serving=serving))
            await self._settled(told)
        return len(matching)

    async def _settled(self, before: Told) -> None:
        """Wait for the swap; one that fails is taken back and raises `RefusedError` with the reason."""
        deadline_s = asyncio.get_running_loop().time() + SWAP_S
        while asyncio.get_running_loop().time() < deadline_s:
            report = next((one for one in await self.reports() if one.id == before.spec.id), None)
            if report is None or report.update is None:
                return
            if report.update.phase == "broken":
                await self._tell(before)
                raise RefusedError(report.update.reason)
            await asyncio.sleep(SWAP_LOOK_S)
        raise TransportError(f"{before.spec.id} was not swapped within {SWAP_S:.0f} s")


def _predictor_folder(predictor: str, allowed: tuple[Path, ...]) -> Path:
    """The allowed folder with the predictor's module; code comes from nowhere else."""
    module = predictor.partition(":")[0].partition(".")[0]
    for folder in allowed:
        if module.isidentifier() and ((folder / f"{module}.py").is_file() or (folder / module).is_dir()):
            return folder
    raise RefusedError(f"no folder of gateway.predictors holds the module of {predictor!r}")
